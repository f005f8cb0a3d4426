"""Picks what a server computes next: which steps of which sessions, or parts of them.

Entry point: `Scheduler`. Pure: it knows no tensors, no clock and no event loop, and of pages only
how many there are.
"""

from swarm_server.scheduler.gathering import Gathering
from swarm_server.scheduler.page_fitting import Holding, PageAccounts
from swarm_server.scheduler.scheduler import Scheduler
from swarm_server.scheduler.tickets import BatchLimits, BatchPlan, Ticket

__all__ = [
    "BatchLimits",
    "BatchPlan",
    "Gathering",
    "Holding",
    "PageAccounts",
    "Scheduler",
    "Ticket",
]
