"""Whatever happens to the servers and whatever the caller does, outputs are as if nothing had."""

import asyncio
from dataclasses import dataclass, replace
from itertools import count

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swarm_client.errors import RollbackUnsupportedError, SessionLostError
from swarm_client.session import InferenceSession
from swarm_client.session.route_search import RouteSearch
from swarm_client.settings import RoutingSettings
from swarm_protocol.identifiers import BlockRange
from tests.unit.swarm_client.scripted_server import FACTS
from tests.unit.swarm_client.session.remembering_swarm import RememberingSwarm, run_block

HIDDEN_SIZE = 2
BLOCKS = BlockRange(0, 5)
_SETTINGS = RoutingSettings(
    prefill_chunk_tokens=3, max_step_tokens=12, max_retries=100, slow_look_s=0, slow_rest_s=0
)
_FACTS = replace(FACTS, num_blocks=len(BLOCKS), hidden_size=HIDDEN_SIZE)


@dataclass(frozen=True)
class Step:
    """Run tokens; the order of rows as numbers that are taken modulo their count."""

    num_tokens: int
    order: tuple[int, ...] = ()
    num_prompts: int = 0
    only_last: bool = False


@dataclass(frozen=True)
class RollBack:
    """Keep this part of the tokens."""

    kept: float


@dataclass(frozen=True)
class TakeRows:
    """Continue these rows, modulo their count."""

    rows: tuple[int, ...]


class OneProcess:
    """All blocks over all tokens anew for every step: what every output must equal."""

    def __init__(self) -> None:
        self.tokens = torch.zeros(2, 0, HIDDEN_SIZE, dtype=torch.float64)
        self.prompts: Tensor | None = None
        self.most_bytes = 0  # of all inputs, at any time

    def step(self, hidden: Tensor, prompts: Tensor | None, order: Tensor | None) -> Tensor:
        kept = self.tokens if order is None else self.tokens[order]
        if kept.shape[1] == 0:
            kept, self.prompts = hidden[:, :0], prompts
        self.tokens = torch.cat([kept, hidden], dim=1)
        self.most_bytes = max(self.most_bytes, self.tokens.nbytes)
        result = self.tokens
        for index in range(BLOCKS.start, BLOCKS.end):
            result = run_block(index, result, None if self.prompts is None else self.prompts[index])
        return result[:, -hidden.shape[1] :]

    def take_rows(self, rows: Tensor) -> None:
        self.tokens = self.tokens[rows]
        self.most_bytes = max(self.most_bytes, self.tokens.nbytes)  # there may be more rows

    def roll_back(self, position: int) -> None:
        self.tokens = self.tokens[:, :position]
        if self.prompts is not None:
            self.prompts = self.prompts[:, :, :position]


async def run(
    events: list[Step | RollBack | TakeRows],
    splits: list[str],
    deaths: set[int],
    *,
    seems_slow: bool = False,
    max_history_bytes: int = 1_000_000,
) -> RememberingSwarm:
    """Let a session and one process do the same, and compare every output.

    They may stop where the session's own inputs were too many to keep.
    """
    swarm = RememberingSwarm(splits, deaths, seems_slow=seems_slow)
    search = RouteSearch(swarm, max_length=1000)
    settings = _SETTINGS.model_copy(update={"max_history_bytes": max_history_bytes})
    session = await InferenceSession.open(search, BLOCKS, _FACTS, settings, num_rows=2)
    local = OneProcess()
    try:
        await compare(events, session, local)
    except (SessionLostError, RollbackUnsupportedError):
        assert local.most_bytes > max_history_bytes
    await session.close()
    assert all(held.is_over for held in swarm.sessions)
    return swarm


async def compare(
    events: list[Step | RollBack | TakeRows], session: InferenceSession, local: OneProcess
) -> None:
    seeds = count()
    for event in events:
        if isinstance(event, RollBack):
            position = int(event.kept * session.position)
            session.roll_back(position)
            local.roll_back(position)
        elif isinstance(event, TakeRows):
            if session.position:
                rows = torch.tensor(event.rows) % len(local.tokens)
                session.take_rows(rows)
                local.take_rows(rows)
        else:
            await compare_step(event, session, local, next(seeds))
            await asyncio.sleep(0)


async def compare_step(step: Step, session: InferenceSession, local: OneProcess, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def whole_numbers(*shape: int) -> Tensor:
        return torch.randint(9, (*shape, HIDDEN_SIZE), generator=generator).double()

    num_rows = len(local.tokens)
    order = prompts = None
    if step.order and session.position:
        order = torch.tensor([step.order[row % len(step.order)] for row in range(num_rows)])
        order %= num_rows
    if step.num_prompts and session.position == 0:
        prompts = whole_numbers(len(BLOCKS), 1, min(step.num_prompts, step.num_tokens))
    hidden = whole_numbers(num_rows, step.num_tokens)
    output = await session.step(hidden, prompts=prompts, hypo_ids=order, only_last=step.only_last)
    expected = local.step(hidden, prompts, order)
    assert output.equal(expected[:, -1:] if step.only_last else expected)
    assert session.position == local.tokens.shape[1]


rows = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)
steps = st.builds(
    Step,
    st.integers(1, 8),
    order=st.just(()) | rows,
    num_prompts=st.sampled_from([0, 0, 2, 7]),
    only_last=st.booleans(),
)
event = st.one_of(
    steps, steps, steps, st.builds(RollBack, st.floats(0, 1)), st.builds(TakeRows, rows)
)
splits = st.sampled_from([["0:5"], ["0:2", "2:5"], ["0:1", "1:2", "2:5"], ["0:3", "1:5", "2:4"]])


@given(
    events=st.lists(event, max_size=8),
    splits=splits,
    deaths=st.sets(st.integers(1, 40), max_size=8),
)
@settings(max_examples=100, deadline=None)
def test_no_loss_changes_an_output(
    events: list[Step | RollBack | TakeRows], splits: list[str], deaths: set[int]
) -> None:
    """Losses at any step of any server, replays included; rows, rollbacks and deep prompts."""
    asyncio.run(run(events, splits, deaths))


@given(
    events=st.lists(event, max_size=8),
    splits=splits,
    deaths=st.sets(st.integers(1, 60), max_size=8),
    max_history_bytes=st.sampled_from([100, 300, 1000, 3000]),
)
@settings(max_examples=100, deadline=None)
def test_no_loss_changes_an_output_when_inputs_are_computed_again(
    events: list[Step | RollBack | TakeRows],
    splits: list[str],
    deaths: set[int],
    max_history_bytes: int,
) -> None:
    """While the session's own inputs are kept, those of its hops need not be."""
    asyncio.run(run(events, splits, deaths, max_history_bytes=max_history_bytes))


@given(
    events=st.lists(event, min_size=6, max_size=16),
    deaths=st.sets(st.integers(1, 40), max_size=2),
)
@settings(max_examples=100, deadline=None)
def test_no_move_changes_an_output(
    events: list[Step | RollBack | TakeRows], deaths: set[int]
) -> None:
    """The session leaves whatever server it uses, again and again; losses come on top."""
    splits = ["0:5", "0:2", "2:5", "0:1", "1:5"]
    asyncio.run(run(events, splits, deaths, seems_slow=True))


def test_sessions_do_move() -> None:
    """What the test above is about happens."""
    swarm = asyncio.run(run([Step(1)] * 20, ["0:5", "0:5"], set(), seems_slow=True))

    assert swarm.num_moves >= 2


@given(splits=splits, num_steps=st.integers(1, 6))
def test_without_a_loss_every_hop_gets_every_token_once(splits: list[str], num_steps: int) -> None:
    """No step costs more than one message to each hop."""
    swarm = asyncio.run(run([Step(1)] * num_steps, splits, set()))
    route = swarm.choose_route(BLOCKS, num_cache_tokens=1, excluded=())

    assert swarm.num_steps == num_steps * len(route)
