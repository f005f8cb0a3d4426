"""Errors of the command line. Each becomes one sentence on stderr and a non-zero exit code.

SwarmError
└── CommandError             a command cannot do, or go on doing, what it was asked
    ├── OptionError              an option is missing, out of range, or contradicts another
    ├── PortTakenError           another program listens on the port
    ├── TooManyServersError      more servers than the model has blocks
    ├── ChildDiedError           a process of `swarmgate up` ended by itself
    ├── NotReadyError            everything runs, and still no token comes back
    └── GatewayRequestError      the gateway cannot be reached, or refuses the request
"""

import signal

from swarm_protocol.errors import SwarmError


class CommandError(SwarmError):
    """A command cannot do, or go on doing, what it was asked."""

    code = "command_failed"


class OptionError(CommandError):
    """An option is missing, out of range, or contradicts another."""


class PortTakenError(CommandError):
    """Another program listens on the port."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"port {port} on {host} is already taken; stop the program that uses it, "
            f"or choose another port with --port"
        )
        self.host = host
        self.port = port


class TooManyServersError(CommandError):
    """More servers than the model has blocks."""

    def __init__(self, num_servers: int, num_blocks: int) -> None:
        super().__init__(
            f"{num_servers} servers cannot share {num_blocks} blocks; use --servers {num_blocks} "
            f"or fewer"
        )
        self.num_servers = num_servers
        self.num_blocks = num_blocks


class ChildDiedError(CommandError):
    """A process of `swarmgate up` ended by itself.

    Attributes:
        name: what the process was, e.g. `server 1 of 2`.
        returncode: exit code, or minus the number of the signal that killed it.
    """

    def __init__(self, name: str, returncode: int, last_line: str | None) -> None:
        how = f"exit code {returncode}"
        if returncode < 0:
            how = f"signal {signal.Signals(-returncode).name}"
        super().__init__(f"{name} ended with {how}" + (f": {last_line}" if last_line else ""))
        self.name = name
        self.returncode = returncode


class NotReadyError(CommandError):
    """Everything runs, and still no token comes back."""

    def __init__(self, waited_s: float, reason: str) -> None:
        super().__init__(f"no token came back within {waited_s:.0f} s: {reason}")
        self.reason = reason


class GatewayRequestError(CommandError):
    """The gateway cannot be reached, or refuses the request."""
