"""Servers killed in the middle of a generation; the long form is `benchmarks.churn kills`."""

import pytest
import torch

from tests.harness.churn_client import churn_client
from tests.harness.churn_swarm import ChurnSwarm
from tests.harness.churn_trials import run_trial, run_undisturbed
from tests.harness.killing import Trial, plan_trials
from tests.harness.programs import DEMO_MODEL

pytestmark = pytest.mark.timeout(120)

NUM_TOKENS = 80
LIMIT_S = 5
"""Half a second is usual; the rest is for machines with much else to do."""

TRIALS = plan_trials(5, num_kills=6, num_stages=3, num_tokens=NUM_TOKENS)


@pytest.fixture
def swarm(shared_swarm: ChurnSwarm, trial: Trial) -> ChurnSwarm:
    """All servers are there of the stages that a trial strikes."""
    if not shared_swarm.is_fit({kill.stage for kill in trial.kills}):
        shared_swarm.restore()
    return shared_swarm


@pytest.mark.parametrize("trial", TRIALS, ids=str)
async def test_no_token_changes_whoever_is_killed_in_whatever_moment(
    swarm: ChurnSwarm, trial: Trial
) -> None:
    """Six seeded kills; greedy and sampled; and nobody waits for the end of a step's time."""
    async with churn_client(DEMO_MODEL, swarm.maddr, dtype=torch.float32) as client:
        usual = await run_undisturbed(client, trial, prompt_tokens=100, num_tokens=NUM_TOKENS)
        outcome = await run_trial(swarm, client, trial, usual, prompt_tokens=100)

    assert outcome.num_struck == len(trial.kills)
    assert outcome.is_recovered, outcome
    assert outcome.gap_s < LIMIT_S
