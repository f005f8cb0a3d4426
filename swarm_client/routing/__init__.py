"""Which servers are used, in which order. Pure: no clock, no sockets, no tensors.

Entry points: `choose_route` for inference sessions, `sample_route` for forward and backward passes.
"""

from swarm_client.routing.costs import Candidate
from swarm_client.routing.explanation import explain_route
from swarm_client.routing.route import Hop, Route, uncovered_blocks
from swarm_client.routing.router import choose_route
from swarm_client.routing.sampling import sample_route

__all__ = [
    "Candidate",
    "Hop",
    "Route",
    "choose_route",
    "explain_route",
    "sample_route",
    "uncovered_blocks",
]
