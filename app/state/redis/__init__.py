"""The state of several gateways, shared in one Redis (7 or newer, not a cluster).

Entry point: `RedisStateStore`. Every operation is one Lua script and therefore atomic.
"""

from app.state.redis.store import RedisStateStore

__all__ = ["RedisStateStore"]
