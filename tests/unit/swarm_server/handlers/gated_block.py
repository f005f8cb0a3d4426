"""A block under a test's control."""

import threading
from dataclasses import dataclass, field

from torch import Tensor

from swarm_server.engine.attention import ChunkContext, KVWriter


@dataclass
class GatedBlock:
    """A block that says when it runs, waits to be let through, and adds a number."""

    added: float = 0
    started: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    fails: bool = False

    def run(self, hidden: Tensor, kv: KVWriter, kv_index: int, context: ChunkContext) -> Tensor:
        self.started.set()
        self.go_on.wait()
        if self.fails:
            raise RuntimeError("a secret of ours")
        return hidden + self.added
