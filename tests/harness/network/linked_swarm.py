"""A swarm over emulated links: each server on a host of its own, and a client on another one."""

import json
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from swarm_client.connection import SwarmConnection
from swarm_client.models import load_local_parts, read_facts
from swarm_client.settings import RoutingSettings
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.hivemind import HivemindNode
from swarm_protocol.identifiers import PeerId
from tests.harness.churn_client import ChurnClient
from tests.harness.network.hosts import Host, client_settings, node_options
from tests.harness.programs import Program

_START_S: Final = 120.0


@dataclass(frozen=True, slots=True, eq=False)
class LinkedPeer:
    """A running `swarmgate serve` or `bootstrap`, and the host on which it runs."""

    host: Host
    program: Program
    peer: PeerId
    maddr: str


def start_peer(stack: ExitStack, host: Host, *arguments: str) -> Program:
    """Start a `swarmgate` command on a host, to be ended with the stack."""
    with host.entered():
        return stack.enter_context(Program(*arguments))


def wait_ready(host: Host, program: Program) -> LinkedPeer:
    """Wait until a program has a node that others can join by."""
    facts = json.loads(program.wait_for('"ready": true', timeout_s=_START_S))
    return LinkedPeer(host, program, PeerId(facts["peer_id"]), facts["maddrs"][0])


@contextmanager
def linked_swarm(
    model: Path | str, spans: Sequence[str], hosts: Sequence[Host], *, dtype: str = "float32"
) -> Iterator[list[LinkedPeer]]:
    """Run a peer without blocks on the first host, and a server of each span on those after it.

    Yields:
        All of them, in this order. The first is the one by which the others have joined.
    """
    with ExitStack() as stack:
        first = wait_ready(
            hosts[0], start_peer(stack, hosts[0], "bootstrap", *node_options(hosts[0]))
        )
        programs = [
            start_peer(
                stack,
                host,
                *("serve", str(model), "--blocks", span, "--dtype", dtype, "--threads", "1"),
                *node_options(host, first.maddr),
                *(() if host.node_settings().has_shortcuts else ("--no-shortcuts",)),
            )
            for host, span in zip(hosts[1:], spans, strict=True)
        ]
        for program in programs:  # all drain at once
            stack.callback(program.send, signal.SIGTERM)
        ready = [wait_ready(*each) for each in zip(hosts[1:], programs, strict=True)]
        yield [first, *ready]


@asynccontextmanager
async def linked_client(
    model: Path | str,
    host: Host,
    maddr: str,
    *,
    dtype: torch.dtype = torch.float32,
    settings: RoutingSettings | None = None,
) -> AsyncIterator[ChurnClient]:
    """Join the swarm at `maddr` from a host, with a node of its own, and leave it at the end."""
    checkpoint = Checkpoint.open(str(model))
    parts = load_local_parts(checkpoint, dtype=dtype)
    with host.entered():
        node = await HivemindNode.start(client_settings(host, maddr))
    connection = SwarmConnection(node, settings)
    try:
        yield ChurnClient(await connection.watch(read_facts(checkpoint)), parts)
    finally:
        await connection.close()
        await node.close()
