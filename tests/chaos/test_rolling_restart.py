"""Servers are restarted, one after the other, while somebody reads."""

import pytest
import torch

from tests.harness.churn_client import churn_client
from tests.harness.churn_rolling import roll_over
from tests.harness.churn_swarm import ChurnSwarm
from tests.harness.programs import DEMO_MODEL

pytestmark = pytest.mark.timeout(180)

STAGES = (0, 1)
LONGEST_GAP_S = 1.0
"""Nobody waits for a replay; but cold starts share our processors."""


async def test_a_rolling_restart_goes_unnoticed(swarm: ChurnSwarm) -> None:
    """Each server drains, ends and starts anew; the session leaves it before it has ended."""
    replicas = [replica for replica in swarm.replicas.values() if replica.stage in STAGES]
    async with churn_client(DEMO_MODEL, swarm.maddr, dtype=torch.float32) as client:
        outcome = await roll_over(swarm, client, replicas, num_tokens=400)

    running = {replica.process.pid for replica in swarm.replicas.values()}
    assert not running & {replica.process.pid for replica in replicas}
    assert outcome.num_tokens_meanwhile is not None, "reading was over too soon"
    assert outcome.num_changed == 0
    assert len(outcome.reasons) >= len(STAGES)
    assert set(outcome.reasons) == {"leaving"}
    assert outcome.gap_s < LONGEST_GAP_S
