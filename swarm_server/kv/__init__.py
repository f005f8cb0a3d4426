"""KV memory: how much a server grants, and which pages hold whose keys and values.

Entry points: `KVBudget` (promises), `KVMemory` (pages) and `SequenceKV` (the pages of a sequence),
all without tensors; `engine.page_storage` has the contents.
"""

from swarm_server.kv.budget import KVBudget
from swarm_server.kv.layout import KVLayout
from swarm_server.kv.memory import KVMemory
from swarm_server.kv.pages import HOLE, PageCopy, PageId
from swarm_server.kv.sequence_kv import SequenceKV

__all__ = [
    "HOLE",
    "KVBudget",
    "KVLayout",
    "KVMemory",
    "PageCopy",
    "PageId",
    "SequenceKV",
]
