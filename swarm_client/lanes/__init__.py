"""Our own wire dialect, client side: one stream to each server, shared by all sessions.

Entry point: `Lanes`, which gives a hop of a route its `HopSession`. Must not know routes, nor how
a session recovers.
"""

from swarm_client.lanes.lanes import Lanes

__all__ = ["Lanes"]
