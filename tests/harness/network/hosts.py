"""The machines of an emulated network: where a program runs, and how others reach it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from swarm_protocol.hivemind.node import NodeSettings
from tests.harness.network.namespaces import entered


class Host(Protocol):
    """One machine."""

    @property
    def number(self) -> int:
        """Its place among the hosts of its network."""
        ...

    @property
    def address(self) -> str:
        """Its IPv4 address, for all other hosts."""
        ...

    def entered(self) -> AbstractContextManager[None]:
        """Let what this thread starts run on this host, for the block.

        That goes for processes (a `Program`, the daemon of a node), threads and sockets.
        """
        ...

    def node_settings(self, *initial_peers: str) -> NodeSettings:
        """Return settings of a node that is reached here."""
        ...


@dataclass(frozen=True, slots=True)
class NamespaceHost:
    """A `Host` that is a network namespace; `namespace` can be opened while the network runs."""

    number: int
    address: str
    namespace: Path

    def entered(self) -> AbstractContextManager[None]:
        """See `Host`."""
        return entered(self.namespace)

    def node_settings(self, *initial_peers: str) -> NodeSettings:
        """See `Host`."""
        return NodeSettings(initial_peers, host_maddrs=(f"/ip4/{self.address}/tcp/0",))


@dataclass(frozen=True, slots=True)
class LoopbackHost:
    """A `Host` that is an address of this machine, for one node: it has one port.

    Attributes:
        port: on which the node listens.
        proxy_port: at which others call it.
    """

    number: int
    address: str
    port: int
    proxy_port: int

    @contextmanager
    def entered(self) -> Iterator[None]:
        """See `Host`. Sockets are bound to the address of the host by whoever makes them."""
        yield

    def node_settings(self, *initial_peers: str) -> NodeSettings:
        """See `Host`."""
        return NodeSettings(
            initial_peers,
            host_maddrs=(f"/ip4/{self.address}/tcp/{self.port}",),
            announce_maddrs=(f"/ip4/{self.address}/tcp/{self.proxy_port}",),
            has_shortcuts=False,  # which would lead around the link
        )


def client_settings(host: Host, *initial_peers: str) -> NodeSettings:
    """Return settings of a node on a host that serves nothing; there may be others like it."""
    return NodeSettings(
        initial_peers,
        host_maddrs=(f"/ip4/{host.address}/tcp/0",),
        client_mode=True,
        has_shortcuts=host.node_settings().has_shortcuts,
    )


def node_options(host: Host, *initial_peers: str) -> list[str]:
    """Return the options of a `swarmgate` command whose node is reached on a host."""
    settings = host.node_settings(*initial_peers)
    options = {
        "--initial-peers": settings.initial_peers,
        "--host-maddrs": settings.host_maddrs,
        "--announce-maddrs": settings.announce_maddrs,
    }
    return [part for name, values in options.items() for value in values for part in (name, value)]
