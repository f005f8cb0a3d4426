"""A block under a test's control."""

import threading
from dataclasses import dataclass, field

from torch import Tensor

from swarm_server.engine.block_context import BlockContext


@dataclass
class GatedBlock:
    """A block that says when it runs, waits to be let through, and adds a number."""

    added: float = 0
    started: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    fails: bool = False
    window: int | None = None

    def run(self, hidden: Tensor, context: BlockContext) -> Tensor:
        self.started.set()
        self.go_on.wait()
        if self.fails:
            raise RuntimeError("a secret of ours")
        return hidden + self.added
