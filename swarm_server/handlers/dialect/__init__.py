"""Answers calls in our own dialect: one stream carries many sessions.

Entry points: `HelloHandler`, and `DialectHandler` with `PushLanes`. Everything a peer sends is
checked here, before it reaches the engine.
"""

from swarm_server.handlers.dialect.handler import DialectHandler
from swarm_server.handlers.dialect.hello import HelloHandler
from swarm_server.handlers.dialect.limits import LaneLimits
from swarm_server.handlers.dialect.push_lanes import PushLanes

__all__ = ["DialectHandler", "HelloHandler", "LaneLimits", "PushLanes"]
