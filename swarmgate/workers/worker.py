"""One worker, as a process: `python -m swarmgate.workers.worker INDEX LISTENER_FD`.

Its settings are in the environment that the parent made; its ready line goes to the parent.
"""

import socket
import sys

from app.settings import load_settings
from swarm_protocol.errors import SwarmError
from swarmgate.gateway_server import run_gateway
from swarmgate.service import run_until_signalled


def main(arguments: list[str]) -> int:
    """Serve until a signal; return the exit code."""
    index, listener_fd = map(int, arguments)
    try:
        settings = load_settings()
        with socket.socket(fileno=listener_fd) as listener:
            run_until_signalled(
                run_gateway(settings, listener=listener),
                log_format=settings.log_format,
                log_level=settings.log_level,
            )
    except SwarmError as error:
        print(f"swarmgate: worker {index}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
