"""Seeded kills: how many generations recover, how many tokens change, how long a reader waits."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.harness.churn_client import ChurnClient
from tests.harness.churn_gaps import Generation, quantile
from tests.harness.churn_swarm import ChurnSwarm
from tests.harness.churn_trials import Outcome, run_trial, run_undisturbed
from tests.harness.killing import Force, InPrefill, Victim, plan_trials


async def run_kills(
    swarm: ChurnSwarm,
    client: ChurnClient,
    *,
    seed: int,
    num_kills: int,
    prompt_tokens: int,
    num_tokens: int,
) -> Mapping[str, object]:
    """Carry all trials out and return what came of them, by kinds of trials."""
    outcomes: list[Outcome] = []
    usual: dict[tuple[int, bool], Generation] = {}
    for trial in plan_trials(
        seed, num_kills=num_kills, num_stages=len(swarm.spans), num_tokens=num_tokens
    ):
        if not swarm.is_fit({kill.stage for kill in trial.kills}):  # faster for several at once
            await asyncio.to_thread(swarm.restore)
            await client.remote.refresh()
        key = trial.seed, trial.do_sample
        if key not in usual:
            usual[key] = await run_undisturbed(
                client, trial, prompt_tokens=prompt_tokens, num_tokens=num_tokens
            )
        outcome = await run_trial(swarm, client, trial, usual[key], prompt_tokens=prompt_tokens)
        outcomes.append(outcome)
        print(f"{outcome.gap_s:7.3f} s  {outcome.error or ''}  {trial}", file=sys.stderr)
    rows = {name: describe(list(filter(belongs, outcomes))) for name, belongs in _KINDS.items()}
    return {"prompt_tokens": prompt_tokens, "num_tokens": num_tokens, "trials": rows}


def describe(outcomes: Sequence[Outcome]) -> Mapping[str, object]:
    """Return counts, and quantiles of the gaps of those that recovered."""
    gaps = [outcome.gap_s for outcome in outcomes if outcome.is_recovered]
    return {
        "kills": sum(outcome.num_struck for outcome in outcomes),
        "trials": len(outcomes),
        "recovered": len(gaps),
        "changed_tokens": sum(outcome.num_changed for outcome in outcomes),
        "replayed_tokens": sum(outcome.num_replayed for outcome in outcomes),
        **({f"gap_p{share}_s": quantile(gaps, share / 100) for share in (50, 99)} if gaps else {}),
    }


def _active_with(force: Force) -> Callable[[Outcome], bool]:
    """Return the claim that the one kill was that of a server in use, by some force."""

    def belongs(outcome: Outcome) -> bool:
        kill, *others = outcome.trial.kills
        return not others and kill.victim is Victim.ACTIVE and kill.force is force

    return belongs


_KINDS: Final[Mapping[str, Callable[[Outcome], bool]]] = {
    "all": lambda outcome: True,
    "nobody falls silent": lambda outcome: all(
        kill.force is not Force.SILENCE for kill in outcome.trial.kills
    ),
    "in prefill": lambda outcome: isinstance(outcome.trial.kills[0].moment, InPrefill),
    "two kills": lambda outcome: len(outcome.trial.kills) > 1,
    "one kill, of a standby": lambda outcome: (
        len(outcome.trial.kills) == 1 and outcome.trial.kills[0].victim is Victim.STANDBY
    ),
    **{f"one kill, {force.value}": _active_with(force) for force in Force},
}
