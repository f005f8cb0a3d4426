"""A rolling restart: servers of a swarm, one after the other, while somebody reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm_client.session import HopLost, HopRestored, SessionEvent
from tests.harness.churn_client import ChurnClient
from tests.harness.churn_gaps import longest_gap_s
from tests.harness.churn_onlookers import ReadsWhile
from tests.harness.churn_swarm import ChurnSwarm, Replica

_SEED = 1
_PROMPT_TOKENS = 60


@dataclass(frozen=True, slots=True)
class RollingRestart:
    """What a reader noticed.

    Attributes:
        num_changed: tokens that are not those of the undisturbed run; missing ones count.
        num_tokens_meanwhile: read when the last server was back; None if reading ended before.
        gap_s: the longest wait for a token, beyond what that token usually takes.
        events: of the session.
    """

    num_changed: int
    num_tokens_meanwhile: int | None
    gap_s: float
    events: Sequence[SessionEvent]

    @property
    def reasons(self) -> list[str]:
        """Why servers were left, in order."""
        return [event.reason for event in self.events if isinstance(event, HopLost)]

    @property
    def num_replayed(self) -> int:
        """Tokens sent once more."""
        return sum(
            event.num_replayed_tokens for event in self.events if isinstance(event, HopRestored)
        )


async def roll_over(
    swarm: ChurnSwarm, client: ChurnClient, replicas: Sequence[Replica], *, num_tokens: int
) -> RollingRestart:
    """Read so many tokens undisturbed, then once more while servers are restarted."""
    prompt = client.prompt(_SEED, _PROMPT_TOKENS)
    usual = await client.generate(prompt, num_tokens, seed=_SEED)

    def restart() -> None:
        for replica in replicas:
            swarm.restart([replica])

    onlooker = ReadsWhile(restart)
    try:
        made = await client.generate(prompt, num_tokens, seed=_SEED, onlooker=onlooker)
    finally:
        await onlooker.finish()
    kept = sum(one == other for one, other in zip(made.tokens, usual.tokens, strict=True))
    return RollingRestart(
        num_tokens - kept, onlooker.num_read, longest_gap_s(made, usual), onlooker.events
    )
