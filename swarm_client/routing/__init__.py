"""Which servers a session uses, in which order. Pure: no clock, no sockets, no tensors.

Entry point: `choose_route`.
"""

from swarm_client.routing.route import Hop, Route, uncovered_blocks
from swarm_client.routing.router import Candidate, choose_route

__all__ = ["Candidate", "Hop", "Route", "choose_route", "uncovered_blocks"]
