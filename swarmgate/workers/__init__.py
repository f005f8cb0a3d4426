"""Several gateway processes behind one port, watched, restarted and ended together.

Entry point: `crew.run_workers`. The parent holds the listening socket, which all workers accept
from, so a connection that waits while one of them dies is taken by another. It imports neither
torch nor hivemind. Must not know requests: it sees ready lines and exit codes.
"""
