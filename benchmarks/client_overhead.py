"""How much processor time does a step of a session take in the client?

There are no servers: two streams answer, one after the other, with what the first was sent, as
chained servers do. What is left is the client's work from `InferenceSession.step` to the frame and
back. The time of the streams themselves, and what the loop waits, do not count.

`turn_us` is the part that servers wait for: from the bytes of the last server's outputs to those
of the next steps, which are one frame for all sessions; the fastest quarter of all turns.
"""

import argparse
import asyncio
import cProfile
import pstats
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter, thread_time
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
WARM_UP_STEPS = 4
SETTINGS = RoutingSettings(slow_look_s=3600, late_margin_s=600)  # there is nobody to move to


class Echo:
    """A stream to a server that is none, and its neighbour's; see the module.

    Attributes:
        took_s: processor time of all echoes together.
        turns_s: from each reply of the neighbour to the next steps.
    """

    took_s = 0.0

    def __init__(self, following: "Echo | None" = None) -> None:
        self.turns_s: list[float] = []
        self._following = following
        self._replies: asyncio.Queue[bytes] = asyncio.Queue()
        self._replied_at = 0.0

    @property
    def has_room(self) -> bool:
        """Always."""
        return True

    async def send(self, frame: bytes) -> None:
        """Take a frame."""
        self.send_now(frame)

    def send_now(self, frame: bytes) -> None:
        """Answer steps, and let the neighbour answer them soon."""
        started_at = thread_time()
        if self._following is not None:
            self.turns_s.append(perf_counter() - self._following._replied_at)
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
        reply = await self._replies.get()
        self._replied_at = perf_counter()
        return reply

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
    parser.add_argument("--profile", action="store_true", help="of one more round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    results = dict[str, float]()
    for number in arguments.sessions:
        measured = partial(run_round, number, arguments.hidden_size, arguments.steps)
        rounds = [measured() for _ in range(arguments.rounds)]
        results[f"us_per_step_of_{number}"] = round(min(one.step_us for one in rounds), 1)
        results[f"turn_us_per_step_of_{number}"] = round(min(one.turn_us for one in rounds), 1)
        if arguments.profile:
            print_profile(measured, number * (arguments.steps + WARM_UP_STEPS))
    print_report("client_overhead", results)


def print_profile(run: Callable[[], object], num_steps: int) -> None:
    """Print what a step calls, the longest first, and in how many calls."""
    profile = cProfile.Profile()
    profile.runcall(run)
    stats = pstats.Stats(profile)
    stats.sort_stats("tottime").print_stats(60)
    print(f"{stats.total_calls / num_steps:.1f} calls per step")  # type: ignore[attr-defined]  # stub


@dataclass(frozen=True)
class Times:
    """Of one session's step: processor time of all, and what servers wait for."""

    step_us: float
    turn_us: float


def run_round(num_sessions: int, hidden_size: int, num_steps: int) -> Times:
    """Return the times of a round in a loop of its own."""
    return uvloop.run(measure(num_sessions, hidden_size, num_steps))


async def measure(num_sessions: int, hidden_size: int, num_steps: int) -> Times:
    """Take steps; see the module."""
    second = Echo()
    first = Echo(second)
    lanes = [
        Lane(hop.peer, echo, hello_of(hop, hidden_size))
        for hop, echo in zip(ROUTE, (first, second), strict=True)
    ]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(lane.run()) for lane in lanes]
        max_length = num_steps + WARM_UP_STEPS
        sessions = [open_session(lanes, hidden_size, max_length) for _ in range(num_sessions)]
        token = torch.randn(1, 1, hidden_size).bfloat16()
        await run_all(sessions, token, WARM_UP_STEPS)
        Echo.took_s, started_s = 0.0, thread_time()
        first.turns_s.clear()
        await run_all(sessions, token, num_steps)
        took_s = thread_time() - started_s - Echo.took_s
        for task in running:
            task.cancel()
    turn_s = statistics.quantiles(first.turns_s[1:])[0]  # the first one waited for no reply
    return Times(1e6 * took_s / num_sessions / num_steps, 1e6 * turn_s / num_sessions)


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

    def expected_s(self, _hop: Hop, _num_tokens: int) -> float | None:
        """Return None: nobody knows."""
        return None

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
