"""Servers that have not proved that they can shorten their KV caches."""

import pytest

from swarm_client.lanes.lane_session import LaneHopSession
from swarm_client.session.petals_hop_session import PetalsHopSession


def deny_rollback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients in this process take all servers for such, in either dialect."""
    for kind in (PetalsHopSession, LaneHopSession):
        monkeypatch.setattr(kind, "can_roll_back", False)
