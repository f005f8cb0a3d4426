"""KV memory: how much a server grants, and where a session keeps its keys and values.

Entry points: `KVBudget` (admission) and `SessionKV` (storage). The engine sees only
`SessionKV.write`, so storage may change without it.
"""

from swarm_server.kv.budget import KVBudget
from swarm_server.kv.session_kv import SessionKV

__all__ = ["KVBudget", "SessionKV"]
