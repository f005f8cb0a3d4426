"""How much processor time does a step of a session take in the client?

There are no servers: two streams answer, one after the other, with what the first was sent, as
chained servers do. What is left is the client's work from `InferenceSession.step` to the frame and
back. The time of the streams themselves, and what the loop waits, do not count.
"""

import argparse
import asyncio
from collections.abc import Sequence
from time import thread_time
from typing import cast

import torch
import uvloop
from torch import Tensor

from benchmarks.report import print_report
from swarm_client import InferenceSession, RoutingSettings
from swarm_client.lanes.chained_session import chain_sessions
from swarm_client.lanes.lane import Lane
from swarm_client.models.facts import ModelFacts
from swarm_client.routing import Hop, Route
from swarm_client.session.hop_session import SessionTerms
from swarm_client.session.route_search import RouteSearch, RouteSource
from swarm_client.session.session_hops import SessionHops
from swarm_protocol.dialect import (
    HelloReply,
    OutputEntry,
    OutputsFrame,
    StepsFrame,
    decode_request,
    encode_outputs,
)
from swarm_protocol.identifiers import BlockRange, PeerId

ROUTE: Route = (
    Hop(PeerId("first"), BlockRange(0, 16)),
    Hop(PeerId("second"), BlockRange(16, 32)),
)
LATER_S = 0.001
SETTINGS = RoutingSettings(slow_look_s=3600, late_margin_s=600)  # there is nobody to move to


class Echo:
    """A stream to a server that is none, and its neighbour's; see the module.

    Attributes:
        took_s: processor time of all echoes together.
    """

    took_s = 0.0

    def __init__(self, following: "Echo | None" = None) -> None:
        self._following = following
        self._replies: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, frame: bytes) -> None:
        """Answer steps, and let the neighbour answer them soon."""
        started_at = thread_time()
        match decode_request(frame):
            case StepsFrame(entries, hidden):
                outputs = [OutputEntry(*entry[:5], 10, 1000, len(entries)) for entry in entries]
                reply = encode_outputs(OutputsFrame(outputs, hidden))
                self._replies.put_nowait(reply)
                if self._following is not None:
                    replies = self._following._replies
                    asyncio.get_running_loop().call_later(LATER_S, replies.put_nowait, reply)
        Echo.took_s += thread_time() - started_at

    async def receive(self) -> bytes | None:
        """Return the next answer."""
        return await self._replies.get()

    async def finish(self) -> None:
        """Nobody is told."""

    def close(self) -> None:
        """Nobody is told."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 16, 64], help="at once")
    parser.add_argument("--hidden-size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=200, help="of each session, one token each")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        number: min(
            uvloop.run(measure(number, arguments.hidden_size, arguments.steps))
            for _ in range(arguments.rounds)
        )
        for number in arguments.sessions
    }
    print_report(
        "client_overhead",
        {f"us_per_step_of_{number}": round(1e6 * time_s, 1) for number, time_s in results.items()},
    )


async def measure(num_sessions: int, hidden_size: int, num_steps: int) -> float:
    """Return the processor time of one step of one session, in seconds."""
    second = Echo()
    lanes = [
        Lane(hop.peer, echo, hello_of(hop, hidden_size))
        for hop, echo in zip(ROUTE, (Echo(second), second), strict=True)
    ]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(lane.run()) for lane in lanes]
        sessions = [open_session(lanes, hidden_size, num_steps + 8) for _ in range(num_sessions)]
        token = torch.randn(1, 1, hidden_size).bfloat16()
        await run_all(sessions, token, 4)  # warms up
        Echo.took_s, started_s = 0.0, thread_time()
        await run_all(sessions, token, num_steps)
        took_s = thread_time() - started_s - Echo.took_s
        for task in running:
            task.cancel()
    return took_s / num_sessions / num_steps


def open_session(lanes: Sequence[Lane], hidden_size: int, max_length: int) -> InferenceSession:
    """Return a session on both echoes, which nothing will ever be put in the place of."""
    facts = ModelFacts(
        source="echo",
        model_type="llama",
        dht_prefix="echo",
        num_blocks=ROUTE[-1].blocks.end,
        hidden_size=hidden_size,
        vocab_size=2,
        max_positions=max_length,
        eos_token_ids=(),
        bos_token_id=None,
        pad_token_id=None,
    )
    terms = SessionTerms(
        dht_prefix=facts.dht_prefix,
        active_adapter=None,
        max_length=max_length,
        max_step_tokens=2048,
        step_timeout_s=60.0,
        close_timeout_s=1.0,
        kv_wait_s=0.0,
    )
    sessions = [lane.session(hop, terms) for lane, hop in zip(lanes, ROUTE, strict=True)]
    search = RouteSearch(cast(RouteSource, AllIsWell()), max_length=max_length)
    return InferenceSession(search, SessionHops(chain_sessions(sessions)), facts, SETTINGS)


class AllIsWell:
    """What a session asks of its swarm while it looks for nobody."""

    def is_leaving(self, _peer: PeerId) -> bool:
        """Return False."""
        return False

    async def answers_ping(self, _peer: PeerId, _others: Sequence[PeerId]) -> bool:
        """Return True."""
        return True


def hello_of(hop: Hop, hidden_size: int) -> HelloReply:
    """Return what a server would say of itself."""
    return HelloReply(
        version=1,
        blocks=hop.blocks,
        hidden_size=hidden_size,
        dtype=torch.bfloat16,
        page_size=16,
        max_frame_tokens=4096,
        max_inflight_tokens=8192,
        max_length=4096,
    )


async def run_all(sessions: Sequence[InferenceSession], token: Tensor, num_steps: int) -> None:
    """Let each session take its steps, each as soon as the one before is back."""

    async def run(session: InferenceSession) -> None:
        for _ in range(num_steps):
            await session.step(token)

    await asyncio.gather(*map(run, sessions))


if __name__ == "__main__":
    main()
