"""Hosts with links between them that are slow, lossy or cut as a test wants them.

```
with emulated_network(num_hosts=3) as network:
    client, first, second = network.hosts
    network.shape_all(LinkTerms(delay_s=0.025))
    with first.entered():
        server = Program("serve", MODEL, "--new-swarm", *node_options(first))
    network.isolate(second)
```
Each host is a network namespace; where the system lets us make none, it is a loopback address with
a proxy before it, and `shortfall` says so. Nothing is left behind, however we end.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.harness.network.hosts import Host, LoopbackHost, NamespaceHost
from tests.harness.network.link import LinkTerms
from tests.harness.network.namespaces import PrivilegeError
from tests.harness.network.switch_commands import Command, Report

_ROOT: Final = Path(__file__).resolve().parents[3]
_END_S: Final = 10.0


class UnsupportedTermsError(Exception):
    """This network cannot emulate such a link."""


class EmulatedNetwork:
    """Hosts, each linked with each. Made by `emulated_network`. Links are perfect at first.

    Attributes:
        hosts: by number.
        shortfall: what it cannot do and why, in one sentence; empty when it can do everything.
    """

    def __init__(
        self, hosts: tuple[Host, ...], switch: "subprocess.Popen[str]", shortfall: str = ""
    ) -> None:
        self.hosts = hosts
        self.shortfall = shortfall
        self._switch = switch
        self._terms = {
            (source, target): LinkTerms()
            for source in hosts
            for target in hosts
            if source is not target
        }

    def shape(self, source: Host, target: Host, terms: LinkTerms) -> None:
        """Set the terms of one direction of a link; they hold for every packet sent from now on.

        Raises:
            UnsupportedTermsError: connections over proxies have neither losses nor rates.
        """
        if self.shortfall and (terms.loss or terms.rate_bytes_per_s is not None):
            raise UnsupportedTermsError(self.shortfall)
        assert self._switch.stdin is not None, "made with a pipe"
        self._terms[source, target] = terms
        self._switch.stdin.write(Command(source.number, target.number, terms).to_line())
        self._switch.stdin.flush()
        _next_line(self._switch)

    def link(self, one: Host, other: Host, terms: LinkTerms) -> None:
        """Set the terms of both directions of a link."""
        self.shape(one, other, terms)
        self.shape(other, one, terms)

    def shape_all(self, terms: LinkTerms) -> None:
        """Set the terms of every link."""
        for source, target in self._terms:
            self.shape(source, target, terms)

    def cut(self, source: Host, target: Host, *, is_cut: bool = True) -> None:
        """Let nothing pass in one direction, without a word to anybody; or let it pass again."""
        self.shape(source, target, replace(self._terms[source, target], is_cut=is_cut))

    def isolate(self, host: Host, *, is_cut: bool = True) -> None:
        """Cut all links of a host, or mend them."""
        for source, target in self._terms:
            if host in (source, target):
                self.cut(source, target, is_cut=is_cut)


@contextmanager
def emulated_network(num_hosts: int, *, seed: int = 0) -> Iterator[EmulatedNetwork]:
    """Run a network of namespaces, or where the system lets us make none, one of proxies.

    See `namespace_network` and `proxied_network`.
    """
    with ExitStack() as stack:
        try:
            network = stack.enter_context(namespace_network(num_hosts, seed=seed))
        except PrivilegeError as error:
            proxied = proxied_network(num_hosts, seed=seed, reason=str(error))
            network = stack.enter_context(proxied)
        yield network


@contextmanager
def namespace_network(num_hosts: int, *, seed: int = 0) -> Iterator[EmulatedNetwork]:
    """Run a network of namespaces for the block. Programs on its hosts must end before it.

    Args:
        num_hosts: at most 200.
        seed: of losses and jitter.

    Raises:
        PrivilegeError: the system lets us make no namespaces.
    """
    addresses = [f"10.77.0.{number + 1}" for number in range(num_hosts)]
    with _running_switch("packet_switch", str(seed), *addresses) as switch:
        report = Report.parse(_next_line(switch))
        if report.fault:
            raise PrivilegeError(report.fault)
        hosts = (
            NamespaceHost(number, addresses[number], Path(f"/proc/{switch.pid}/fd/{descriptor}"))
            for number, (descriptor,) in enumerate(report.handles)
        )
        yield EmulatedNetwork(tuple(hosts), switch)


@contextmanager
def proxied_network(num_hosts: int, *, seed: int = 0, reason: str) -> Iterator[EmulatedNetwork]:
    """Run a network of loopback addresses and proxies, which delays and cuts; else as the other.

    Each host is for one node. Other servers of a host, such as a gateway's, are not behind a proxy.

    Args:
        num_hosts: at most 200.
        seed: of jitter.
        reason: why there are no namespaces.

    Raises:
        PrivilegeError: the system does not have these loopback addresses.
    """
    addresses = [f"127.77.0.{number + 1}" for number in range(num_hosts)]
    with _running_switch("proxy_switch", str(seed), *addresses) as switch:
        report = Report.parse(_next_line(switch))
        if report.fault:
            raise PrivilegeError(report.fault)
        hosts = (
            LoopbackHost(number, addresses[number], port, proxy_port)
            for number, (port, proxy_port) in enumerate(report.handles)
        )
        shortfall = (
            f"loopback proxies delay and cut, but do not lose packets or limit rates; {reason}"
        )
        yield EmulatedNetwork(tuple(hosts), switch, shortfall)


@contextmanager
def _running_switch(program: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    switch = subprocess.Popen(
        [sys.executable, "-m", f"tests.harness.network.{program}", *arguments],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with switch:
        try:
            yield switch
        finally:
            assert switch.stdin is not None, "made with a pipe"
            switch.stdin.close()
            try:
                switch.wait(_END_S)
            except subprocess.TimeoutExpired:
                switch.kill()


def _next_line(switch: "subprocess.Popen[str]") -> str:
    assert switch.stdout is not None, "made with a pipe"
    line = switch.stdout.readline()
    assert line, "the switch has ended"
    return line
