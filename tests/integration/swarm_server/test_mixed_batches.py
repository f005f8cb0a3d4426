"""Sessions of all kinds in the same batches give what each gives alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from swarm_protocol.checkpoint import HubSettings
from swarm_protocol.identifiers import BlockRange
from swarm_server.adapters import AdapterFiles
from swarm_server.engine import ComputeThread, Span
from swarm_server.engine.serving import Engine, SessionRequest
from swarm_server.engine.serving.requests import Step
from swarm_server.errors import KVMemoryError, NotFiniteError
from swarm_server.loading import load_span, open_model
from swarm_server.serving_engine import build_engine, prepare_span
from swarm_server.settings import ServerSettings
from tests.integration.adapters.adapted_swarm import save_two_adapters

TOLERANCE = 1e-4  # float32: how sums are ordered depends on the rows of a batch
HIDDEN_SIZE = 64


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step, from `position` on, and the session that makes it."""

    step: Step
    position: int


@dataclass(frozen=True, slots=True)
class PlannedSession:
    """A session and all its steps, drawn by a seed."""

    request: SessionRequest
    steps: tuple[PlannedStep, ...]

    @classmethod
    def draw(cls, seed: int, adapters: list[str | None]) -> "PlannedSession":
        """Draw a few steps: prefills, single tokens, prompts, rollbacks, and rows that change."""
        random = torch.Generator().manual_seed(seed)

        def below(limit: int) -> int:
            return int(torch.randint(limit, (), generator=random))

        start = below(3)
        blocks = BlockRange(start, start + 1 + below(4 - start))
        num_rows = 1 + below(3)
        position, steps = 0, list[PlannedStep]()
        for index in range(8):
            num_tokens = 1 + below(20) if index == 0 else 1 + below(3)
            kind = below(5)
            if kind == 0:
                position = below(position + 1)
            hidden = torch.randn(num_rows, num_tokens, HIDDEN_SIZE, generator=random)
            hypo_ids = torch.randint(num_rows, (num_rows,), generator=random)
            prompts = torch.randn(len(blocks), 1, num_tokens, HIDDEN_SIZE, generator=random)
            step = Step(
                hidden,
                prompts=prompts if kind == 1 else None,
                hypo_ids=hypo_ids if kind == 2 else None,
            )
            steps.append(PlannedStep(step, position))
            position += num_tokens
        adapter = adapters[seed % len(adapters)]
        return cls(SessionRequest(blocks, num_rows, 64, str(seed % 3), adapter), tuple(steps))

    async def run(self, engine: Engine) -> list[Tensor]:
        """Return the outputs of all steps."""
        session = engine.open(self.request)
        try:
            return [
                (await session.submit(each.step, position=each.position)).hidden
                for each in self.steps
            ]
        finally:
            session.close()


@pytest.fixture(scope="module")
def span(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Span:
    """All blocks of the tiny Llama with two adapters."""
    directories = save_two_adapters(tmp_path_factory.mktemp("adapters"), tiny_llama)
    adapters = [AdapterFiles.open(str(directory), hub=HubSettings()) for directory in directories]
    model = open_model(str(tiny_llama))
    return load_span(model, BlockRange(0, 4), dtype=torch.float32, adapters=adapters)


@asynccontextmanager
async def engine_on(span: Span, *, kv_tokens: int, page_size: int) -> AsyncIterator[Engine]:
    """Yield an engine whose chunks are 16 tokens."""
    compute = ComputeThread(1)
    settings = ServerSettings(
        model="-", kv_tokens=kv_tokens, page_size=page_size, max_chunk_ms=0.001
    )
    engine = build_engine(prepare_span(span, settings), compute, settings)
    yield engine
    engine.check_integrity()
    engine.close()
    await compute.close()


def assert_same(outputs: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(outputs, expected, strict=True):
        torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kv_tokens", [4096, 200])
async def test_mixed_sessions_equal_each_alone(span: Span, kv_tokens: int) -> None:
    """With pages for all, and with so few that sessions are preempted all the time."""
    names: list[str | None] = [None, *span.adapters]
    planned = [PlannedSession.draw(seed, names) for seed in range(12)]
    async with engine_on(span, kv_tokens=4096, page_size=64) as engine:
        alone = [await each.run(engine) for each in planned]

    async with engine_on(span, kv_tokens=kv_tokens, page_size=8) as engine:
        together = await asyncio.gather(*(each.run(engine) for each in planned))
        has_preempted = engine.counters.num_preemptions > 0

    for outputs, expected in zip(together, alone, strict=True):
        assert_same(outputs, expected)
    assert has_preempted == (kv_tokens == 200)


async def test_a_poisoned_session_leaves_nothing_in_the_pages(span: Span) -> None:
    """Whoever gets them next has numbers all the same."""
    planned = PlannedSession.draw(3, [None])
    async with engine_on(span, kv_tokens=256, page_size=16) as engine:
        expected = await planned.run(engine)
        poisoned = engine.open(SessionRequest(BlockRange(0, 4), 4, 64, "other"))
        with pytest.raises(NotFiniteError):
            await poisoned.submit(Step(torch.full((4, 64, HIDDEN_SIZE), torch.nan)), position=0)
        poisoned.close()

        assert_same(await planned.run(engine), expected)


async def test_a_shared_prefix_gives_what_computing_it_gives(span: Span) -> None:
    """Its pages hold the same keys and values."""
    hidden = torch.randn(1, 40, HIDDEN_SIZE, generator=torch.Generator().manual_seed(0))
    hashes = [bytes([index]) * 16 for index in range(2)]
    async with engine_on(span, kv_tokens=1024, page_size=16) as engine:
        first, second = (
            engine.open(SessionRequest(BlockRange(0, 4), 1, 64, "one")) for _ in range(2)
        )
        first.match_prefix(hashes)
        expected = (await first.submit(Step(hidden), position=0)).hidden

        assert second.match_prefix(hashes) == 32
        outputs = (await second.submit(Step(hidden[:, 32:]), position=32)).hidden

        assert_same([outputs], [expected[:, 32:]])
        first.close()
        second.close()


async def test_a_session_too_large_for_all_pages_is_refused(span: Span) -> None:
    """And the next one is served."""
    async with engine_on(span, kv_tokens=96, page_size=16) as engine:
        large = engine.open(SessionRequest(BlockRange(0, 4), 1, 100, "one"))
        with pytest.raises(KVMemoryError, match="96 tokens are free"):
            await large.submit(Step(torch.zeros(1, 100, HIDDEN_SIZE)), position=0)
        large.close()

        await PlannedSession.draw(4, [None]).run(engine)
