"""Taking a TCP port, with an error that says who is in the way."""

import errno
import socket

from swarmgate.errors import CommandError, PortTakenError


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        PortTakenError: another program listens there.
        CommandError: this user may not, or the machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(host, port) from error
        raise CommandError(f"cannot listen on {host}:{port}: {error.strerror}") from error
