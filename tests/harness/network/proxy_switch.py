"""A program that carries connections between addresses of this machine, late or not at all.

For systems without namespaces. Each host has an address of the loopback network, a port on which
its node listens, and a proxy for others to call; a libp2p daemon calls from the address on which it
listens, so a proxy knows between which hosts it carries. Run with the addresses of the hosts; see
`switch_commands` for the rest.

Times are kept to a millisecond or two. A cut holds bytes back instead of losing them, as a
connection over a lossy link would do.
"""

import asyncio
import socket
import sys
from asyncio import Event, Queue, StreamReader, StreamWriter, TaskGroup
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Final

from tests.harness.network.link import LinkTerms
from tests.harness.network.switch_commands import Command, Report, say

_CHUNK_BYTES: Final = 65536
_MAX_CHUNKS: Final = 1024
"""Under way in one direction of a connection; then the sender has to wait."""


class ProxiedLink:
    """One direction between two hosts: the delay of each chunk of each of its connections."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._terms = LinkTerms()
        self._is_whole = Event()
        self._is_whole.set()

    def change(self, terms: LinkTerms) -> None:
        """Take new terms, for what is sent from now on."""
        self._terms = terms
        if terms.is_cut:
            self._is_whole.clear()
        else:
            self._is_whole.set()

    async def carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Carry what comes from a reader to a writer, until it ends."""
        under_way: Queue[tuple[float, bytes]] = Queue(_MAX_CHUNKS)
        async with TaskGroup() as tasks:
            tasks.create_task(self._send(reader, under_way))
            tasks.create_task(_receive(under_way, writer))

    async def _send(self, reader: StreamReader, under_way: Queue[tuple[float, bytes]]) -> None:
        chunk = b"?"
        while chunk:
            chunk = await reader.read(_CHUNK_BYTES)
            await self._is_whole.wait()
            jitter_s = self._random.uniform(-self._terms.jitter_s, self._terms.jitter_s)
            arrival = asyncio.get_running_loop().time() + self._terms.delay_s + jitter_s
            await under_way.put((arrival, chunk))


async def _receive(under_way: Queue[tuple[float, bytes]], writer: StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    arrival, chunk = await under_way.get()
    while chunk:
        await asyncio.sleep(arrival - loop.time())
        writer.write(chunk)
        await writer.drain()
        arrival, chunk = await under_way.get()
    writer.write_eof()


class ProxySwitch:
    """Links between all hosts, and a proxy before each."""

    def __init__(self, addresses: Sequence[str], seed: str) -> None:
        self._numbers = {address: number for number, address in enumerate(addresses)}
        self._links = {
            (source, target): ProxiedLink(Random(f"{seed} {source} {target}"))
            for source in self._numbers.values()
            for target in self._numbers.values()
        }

    async def start_proxy(self, address: str) -> tuple[int, int]:
        """Start the proxy of a host; return the port on which its node must listen, and its own."""
        with socket.create_server((address, 0)) as free:
            port: int = free.getsockname()[1]

        async def connect(reader: StreamReader, writer: StreamWriter) -> None:
            caller: str = writer.get_extra_info("peername")[0]
            with suppress(OSError, ExceptionGroup):  # either end may break off at any time
                if caller in self._numbers:
                    await self._connect(caller, reader, writer, (address, port))
            writer.close()

        server = await asyncio.start_server(connect, address, 0)
        proxy_port: int = server.sockets[0].getsockname()[1]
        return port, proxy_port

    async def _connect(
        self, caller: str, reader: StreamReader, writer: StreamWriter, target: tuple[str, int]
    ) -> None:
        ends = self._numbers[caller], self._numbers[target[0]]
        far_reader, far_writer = await asyncio.open_connection(*target, local_addr=(caller, 0))
        try:
            async with TaskGroup() as tasks:
                tasks.create_task(self._links[ends].carry(reader, far_writer))
                tasks.create_task(self._links[ends[::-1]].carry(far_reader, writer))
        finally:
            far_writer.close()

    async def obey(self) -> None:
        """Carry out commands until they end."""
        commands = StreamReader()
        protocol = asyncio.StreamReaderProtocol(commands)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while line := await commands.readline():
            command = Command.parse(line)
            self._links[command.source, command.target].change(command.terms)
            say("\n")


async def main(seed: str, *addresses: str) -> None:
    """Start the proxies, say so, and carry until the commands end."""
    switch = ProxySwitch(addresses, seed)
    try:
        ports = [await switch.start_proxy(address) for address in addresses]
    except OSError as error:
        say(Report(fault=f"no such loopback address: {error.strerror}").to_line())
        return
    say(Report(tuple(ports)).to_line())
    await switch.obey()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
