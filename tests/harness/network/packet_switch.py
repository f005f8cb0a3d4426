"""A program that moves IP packets between network namespaces, over links with terms.

Every host is a namespace with one TUN device, whose other end is here. Run with a seed and the
addresses of the hosts, which have one /24 network together; see `switch_commands` for the rest.
"""

import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Final

from tests.harness.network.link import Link
from tests.harness.network.namespaces import PrivilegeError, make_namespace, open_tun
from tests.harness.network.switch_commands import Command, Report, say

_COMMANDS: Final = 0
_MAX_PACKET_BYTES: Final = 65536
_MAX_BURST: Final = 64
"""Packets read from one host before others have their turn."""

_IPV4: Final = 4
_TARGET_ADDRESS: Final = slice(16, 20)
_PRIORITY: Final = -10
"""Of this process, above the programs that it connects: a link does not wait for a processor."""


class PacketSwitch:
    """Links between all hosts, and the devices at their ends."""

    def __init__(self, addresses: Sequence[str], devices: Sequence[int], seed: int) -> None:
        numbers = range(len(addresses))
        self._devices = devices
        self._numbers = {socket.inet_aton(address): n for n, address in enumerate(addresses)}
        self._links = {
            (source, target): Link(Random(f"{seed} {source} {target}"))
            for source in numbers
            for target in numbers
            if source != target
        }
        self._unread_commands = b""

    def run(self) -> None:
        """Move packets until the commands end."""
        sources = {device: number for number, device in enumerate(self._devices)}
        is_over = False
        while not is_over:
            readable, _, _ = select.select([_COMMANDS, *sources], [], [], self._pause_s())
            for descriptor in readable:
                if descriptor == _COMMANDS:
                    is_over = not self._obey()
                else:
                    self._accept_from(sources[descriptor])
            self._deliver()

    def _pause_s(self) -> float | None:
        """Return the time to the next arrival. A select ends less than a millisecond late."""
        arrivals = [at for link in self._links.values() if (at := link.next_arrival) is not None]
        return max(0.0, min(arrivals) - time.monotonic()) if arrivals else None

    def _accept_from(self, source: int) -> None:
        with suppress(BlockingIOError):
            for _ in range(_MAX_BURST):
                packet = os.read(self._devices[source], _MAX_PACKET_BYTES)
                target = self._numbers.get(packet[_TARGET_ADDRESS])
                if packet[0] >> 4 == _IPV4 and target is not None:
                    self._links[source, target].send(packet, time.monotonic())

    def _deliver(self) -> None:
        now = time.monotonic()
        for (_, target), link in self._links.items():
            for packet in link.receive(now):
                with suppress(BlockingIOError):  # its queue is full: one more loss
                    os.write(self._devices[target], packet)

    def _obey(self) -> bool:
        """Carry out the commands that have come; tell whether there may be more."""
        received = os.read(_COMMANDS, _MAX_PACKET_BYTES)
        *lines, self._unread_commands = (self._unread_commands + received).split(b"\n")
        for line in lines:
            command = Command.parse(line)
            self._links[command.source, command.target].terms = command.terms
            say("\n")
        return bool(received)


def main(seed: str, *addresses: str) -> None:
    """Set up the hosts, say so, and connect them until the commands end."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    try:
        namespaces = [make_namespace() for _ in addresses]
        devices = [
            open_tun(namespace, address)
            for namespace, address in zip(namespaces, addresses, strict=True)
        ]
    except PrivilegeError as error:
        say(Report(fault=str(error)).to_line())
        return
    say(Report(tuple((namespace,) for namespace in namespaces)).to_line())
    PacketSwitch(addresses, devices, int(seed)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
