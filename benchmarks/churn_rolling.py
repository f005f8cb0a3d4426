"""What a reader notices when all servers are restarted one after the other."""

from collections.abc import Mapping

from tests.harness.churn_client import ChurnClient
from tests.harness.churn_rolling import roll_over
from tests.harness.churn_swarm import ChurnSwarm


async def measure_rolling(
    swarm: ChurnSwarm, client: ChurnClient, *, num_tokens: int
) -> Mapping[str, object]:
    """Return what changed, why servers were left, and the longest wait for a token."""
    replicas = list(swarm.replicas.values())
    outcome = await roll_over(swarm, client, replicas, num_tokens=num_tokens)
    return {
        "restarted": len(replicas),
        "num_tokens": num_tokens,
        "tokens_meanwhile": outcome.num_tokens_meanwhile,
        "changed_tokens": outcome.num_changed,
        "replayed_tokens": outcome.num_replayed,
        "servers_left": {name: outcome.reasons.count(name) for name in set(outcome.reasons)},
        "gap_s": round(outcome.gap_s, 3),
    }
