"""Copies of local parts, before anything is loaded."""

import pytest

from app.inference.errors import NoDeviceError
from app.inference.local_copies import plan_copies
from app.inference.settings import EngineSettings
from swarm_client.models import read_facts
from swarm_protocol.checkpoint import Checkpoint
from tests.harness.programs import DEMO_MODEL


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_told_in_one_sentence(device: str) -> None:
    """Whatever torch raises for it; the first one's copy is not planned either."""
    checkpoint = Checkpoint.open(DEMO_MODEL)
    settings = EngineSettings(models=(DEMO_MODEL,), devices=("cpu", device))

    with pytest.raises(NoDeviceError, match=f"no device '{device}'.*SWARMGATE_DEVICE"):
        plan_copies(checkpoint, read_facts(checkpoint), settings)
