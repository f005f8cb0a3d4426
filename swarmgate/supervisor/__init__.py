"""A private swarm on this machine: one gateway and some servers, as processes, watched and ended.

Entry point: `supervisor.run_swarm`. Imports neither torch nor hivemind, so that the processes,
which do, start at once. Must not know what they do: it sees ready lines, health and exit codes.
"""
