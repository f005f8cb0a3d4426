"""On a GPU: graphs and kernels give what the engine's own layers give, over equal pages."""

import pytest
import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.adaptable_linear import AdaptableLinear
from swarm_server.engine.attention import Attention, AttentionShape
from swarm_server.engine.batch import PromptedSegment, RaggedBatch, SpanRunner
from swarm_server.engine.cuda import make_gpu_runner
from swarm_server.engine.decoder_block import BlockParts, BlockShape, DecoderBlock
from swarm_server.engine.eager_runner import EagerRunner
from swarm_server.engine.feed_forward import GatedMLP
from swarm_server.engine.linear import make_linear
from swarm_server.engine.norms import RMSNorm
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.rope import Rope
from swarm_server.engine.segments import Segment
from swarm_server.engine.span import Span
from swarm_server.kv import KVLayout

if not torch.cuda.is_available():
    pytest.skip("graphs need a GPU", allow_module_level=True)

HIDDEN, INNER, PAGE_SIZE, NUM_PAGES = 256, 352, 16, 400
BLOCKS = BlockRange(0, 3)
SHAPE = AttentionShape(8, 2, 64, Rope())

STEPS = [
    [(0, 70), (0, 5)],  # (tokens so far, new ones) of each sequence
    [(70, 1), (5, 1)],
    [(71, 4), (6, 1), (0, 8)],  # some tokens at once, as in a verification
    [(75, 1), (7, 200), (8, 1)],  # a chunk among decodes
    [(76, 1), (207, 1), (9, 600)],  # one that no graph has room for
    [(70, 3), (100, 1), (609, 1)],  # two were rolled back
    [(73, 1)],  # a lone row, whose graph is captured
    [(74, 1)],  # and used again
]


def random_span(dtype: torch.dtype) -> Span:
    generator = torch.Generator("cuda").manual_seed(0)

    def weight(*shape: int) -> Tensor:
        values: Tensor = torch.randn(shape, generator=generator, device="cuda")
        scale: float = shape[-1] ** -0.5
        return (values * scale).to(dtype)

    def linear(name: str, *shape: int) -> AdaptableLinear:
        return AdaptableLinear(name, make_linear(weight(*shape)))

    def norm(*shape: int) -> RMSNorm:
        return RMSNorm(1 + weight(*shape), 1e-5)

    layers = [
        DecoderBlock(
            BlockParts(
                attention_norm=norm(HIDDEN),
                attention=Attention(
                    SHAPE,
                    linear("qkv", 12 * 64, HIDDEN),
                    linear("attention_out", HIDDEN, 8 * 64),
                    qk_norm=norm(10, 64) if index == 1 else None,
                ),
                mlp_norm=norm(HIDDEN),
                mlp=GatedMLP(linear("gate_up", 2 * INNER, HIDDEN), linear("down", HIDDEN, INNER)),
            )
        )
        for index in range(len(BLOCKS))
    ]
    return Span(BLOCKS, layers, BlockShape(HIDDEN, 2, 64), dtype=dtype, device="cuda")


def both_runners(span: Span) -> tuple[SpanRunner, SpanRunner]:
    """Return the one with graphs and the reference, each over pages of its own."""
    storages = [
        PageStorage(
            KVLayout(span.windows, PAGE_SIZE),
            NUM_PAGES,
            num_kv_heads=2,
            head_dim=64,
            dtype=span.dtype,
            device="cuda",
        )
        for _ in range(2)
    ]
    fast = make_gpu_runner(span, storages[0], EagerRunner(span, storages[0]))
    assert not isinstance(fast, EagerRunner)
    return fast, EagerRunner(span, storages[1])


def random_batch(step: list[tuple[int, int]]) -> RaggedBatch:
    """Return a step of sequences, the pages of which lie interleaved."""
    segments, row = [], 0
    for index, (position, num_rows) in enumerate(step):
        num_pages = -(-(position + num_rows) // PAGE_SIZE)
        table = [len(STEPS) * page + index for page in range(num_pages)]
        segments.append(Segment(row, row + num_rows, position, (table,)))
        row += num_rows
    generator = torch.Generator().manual_seed(row)
    return RaggedBatch(torch.randn(row, HIDDEN, generator=generator), tuple(segments))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float32, 1e-5),
        (torch.float16, 4e-3),  # a step of rounding is 2^-11, and there are some dozen of them
        (torch.bfloat16, 3e-2),  # 2^-8
    ],
)
def test_every_kind_of_step_equals_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    """The deviation is that of rounding, relative to the size of the outputs."""
    fast, reference = both_runners(random_span(dtype))

    for step in STEPS:
        batch = random_batch(step)
        outputs, expected = fast.run(BLOCKS, batch), reference.run(BLOCKS, batch)
        assert outputs.dtype == dtype
        deviation = (outputs - expected).float().norm() / expected.float().norm()
        assert deviation < tolerance, (step, deviation)


def test_a_part_of_the_span_has_graphs_of_its_own() -> None:
    """A session may use only some of a server's blocks."""
    fast, reference = both_runners(random_span(torch.float32))

    for blocks in (BlockRange(1, 3), BlockRange(0, 1)):
        batch = random_batch([(0, 1), (0, 40)])
        torch.testing.assert_close(
            fast.run(blocks, batch), reference.run(blocks, batch), rtol=0.0, atol=1e-4
        )


def test_a_row_that_is_not_finite_spoils_no_other() -> None:
    """Neither in its own step nor, through a bucket's filling, in the next one."""
    fast, reference = both_runners(random_span(torch.float32))
    poisoned = random_batch([(0, 1), (0, 1), (0, 1)])
    poisoned.hidden[1] = torch.nan

    outputs = fast.run(BLOCKS, poisoned)
    after = fast.run(BLOCKS, random_batch([(0, 1)]))

    expected = reference.run(BLOCKS, poisoned)
    torch.testing.assert_close(outputs, expected, rtol=0.0, atol=1e-4, equal_nan=True)
    assert outputs[1].isnan().all()
    assert after.isfinite().all()


def test_prompts_go_the_way_of_the_reference() -> None:
    """Over the same pages, so that the next steps are fast again."""
    fast, reference = both_runners(random_span(torch.float32))
    plain = random_batch([(0, 6)])
    prompts = PromptedSegment(0, torch.randn(len(BLOCKS), 2, HIDDEN))
    prompted = RaggedBatch(plain.hidden, plain.segments, prompts=(prompts,))

    for batch in (prompted, random_batch([(6, 1)])):
        torch.testing.assert_close(
            fast.run(BLOCKS, batch), reference.run(BLOCKS, batch), rtol=0.0, atol=1e-4
        )
