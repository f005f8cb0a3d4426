"""Where the fast path does not cover a span, or has no Triton, batches go the engine's own way."""

import torch

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.block_context import BlockContext
from swarm_server.engine.cuda import make_gpu_runner
from swarm_server.engine.decoder_block import BlockShape
from swarm_server.engine.eager_runner import EagerRunner
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.span import Span
from swarm_server.kv import KVLayout


class Doubling:
    """A block of no known kind."""

    window = None

    def run(self, hidden: torch.Tensor, context: BlockContext) -> torch.Tensor:
        return hidden * 2


def test_a_span_of_another_kind_keeps_the_runner_it_has() -> None:
    """Without an error: the server is slower, and its log says why."""
    span = Span(BlockRange(0, 1), [Doubling()], BlockShape(32, 2, 16), dtype=torch.float32)
    layout = KVLayout(span.windows, 16)
    storage = PageStorage(layout, 4, num_kv_heads=2, head_dim=16, dtype=torch.float32)
    eager = EagerRunner(span, storage)

    assert make_gpu_runner(span, storage, eager) is eager
