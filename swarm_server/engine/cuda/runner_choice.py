"""Who runs the batches of a span on a GPU."""

from time import perf_counter

from swarm_protocol.logs import get_logger
from swarm_server.engine.batch import SpanRunner
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.span import Span

log = get_logger(__name__)


def make_gpu_runner(span: Span, storage: PageStorage, eager: SpanRunner) -> SpanRunner:
    """Return a runner with everything captured; `eager` where there is none, said in the log.

    For the compute thread; takes some seconds.

    Args:
        span: whose weights are on a GPU.
        storage: of its pages, there too.
        eager: that runs what the fast path does not cover.
    """
    try:  # these need Triton, which only machines with a GPU have
        from swarm_server.engine.cuda.fusing import NotFusableError, fuse_span
        from swarm_server.engine.cuda.graph_runner import GraphRunner
    except ImportError as error:
        log.warning("gpu_fast_path_unavailable", reason=str(error))
        return eager
    started_at = perf_counter()
    try:
        runner = GraphRunner(fuse_span(span, storage), eager)
    except NotFusableError as error:
        log.warning("gpu_fast_path_unavailable", reason=f"the model has {error}")
        return eager
    runner.warm_up()
    log.info("gpu_graphs_captured", took_ms=round(1000 * (perf_counter() - started_at), 1))
    return runner
