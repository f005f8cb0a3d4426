"""From a model's files to a span of blocks that can run.

Entry points: `open_model` (reads config.json only) and `load_span`. Must not know peers.
"""

from swarm_server.loading.registry import OpenModel, open_model
from swarm_server.loading.span import check_blocks, load_span

__all__ = ["OpenModel", "check_blocks", "load_span", "open_model"]
