"""How the gap that a loss leaves grows with the history that must be replayed."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import torch

from swarm_protocol.identifiers import BlockRange
from tests.harness.churn_client import ChurnClient
from tests.harness.churn_gaps import quantile
from tests.harness.churn_swarm import ChurnSwarm
from tests.harness.churn_trials import Outcome, run_trial, run_undisturbed
from tests.harness.killing import AfterTokens, Force, Kill, Trial, Victim

_NUM_TOKENS = 16
_STRIKE = AfterTokens(8, 0.5)


async def measure_history(
    swarm: ChurnSwarm, client: ChurnClient, *, lengths: Sequence[int], num_rounds: int
) -> Mapping[str, object]:
    """Return the gaps by tokens of history, and what a prefill of them takes on one span alone."""
    outcomes: dict[int, list[Outcome]] = {length: [] for length in lengths}
    prefills: dict[int, list[float]] = {length: [] for length in lengths}
    for number in range(num_rounds):
        stage = number % len(swarm.spans)
        for length in lengths:
            prompt_tokens = length - _STRIKE.num_tokens
            kill = Kill(stage, Victim.ACTIVE, Force.BOTH, _STRIKE)
            trial = Trial(number, False, (kill,))
            prefills[length].append(await prefill_s(client, swarm.spans[stage], length))
            usual = await run_undisturbed(
                client, trial, prompt_tokens=prompt_tokens, num_tokens=_NUM_TOKENS
            )
            outcome = await run_trial(swarm, client, trial, usual, prompt_tokens=prompt_tokens)
            assert outcome.is_recovered, outcome
            outcomes[length].append(outcome)
            await asyncio.to_thread(swarm.restore)
            await client.remote.refresh()
    return {"history": {n: _compare(outcomes[n], prefills[n]) for n in lengths}}


async def prefill_s(client: ChurnClient, blocks: BlockRange, num_tokens: int) -> float:
    """Return the seconds that so many tokens take through some blocks, in an open session."""
    hidden = client.parts.embed(torch.tensor([client.prompt(0, num_tokens)]))
    session = await client.remote.open_session(max_length=num_tokens, blocks=blocks)
    async with session:
        started_at = time.perf_counter()
        await session.step(hidden)
        return time.perf_counter() - started_at


def _compare(outcomes: Sequence[Outcome], prefills: Sequence[float]) -> Mapping[str, float]:
    gaps = [outcome.gap_s for outcome in outcomes]
    gap_s, alone_s = quantile(gaps, 0.5), quantile(prefills, 0.5)
    noticing_s = quantile([outcome.noticing_s for outcome in outcomes], 0.5)
    mending_s = quantile([outcome.mending_s for outcome in outcomes], 0.5)
    return {
        "gap_p50_s": gap_s,
        "gap_max_s": round(max(gaps), 3),
        "prefill_of_lost_span_p50_s": alone_s,
        "ratio": round(gap_s / alone_s, 2),
        "noticing_p50_s": noticing_s,
        "mending_p50_s": mending_s,
        "ratio_of_mending": round(mending_s / alone_s, 2),
    }
