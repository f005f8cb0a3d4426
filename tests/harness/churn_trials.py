"""Carries trials out: generates undisturbed, then again while servers are killed, and compares."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from swarm_client.session import HopLost, HopRestored, InferenceSession, SessionEvent
from swarm_protocol.errors import SwarmError
from swarm_protocol.identifiers import PeerId
from tests.harness.churn_client import ChurnClient
from tests.harness.churn_gaps import Generation, longest_gap_s, usual_step_s
from tests.harness.churn_swarm import ChurnSwarm
from tests.harness.killing import AfterKill, AfterTokens, InPrefill, Kill, Trial, Victim

_TRIAL_S: Final = 150.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended.

    Attributes:
        num_struck: kills that came before the generation ended.
        num_changed: tokens that are not those of the undisturbed run; missing ones count.
        error: why it ended early; None when it did not.
        num_replayed: tokens sent once more, summed over the servers that took over.
        gap_s: the longest wait for a token, beyond what that token usually takes.
        noticing_s: from the first kill until the first loss was noticed; 0 without one.
        mending_s: from then until others had taken over; 0 without one.
    """

    trial: Trial
    num_struck: int
    num_changed: int
    error: str | None
    num_replayed: int
    gap_s: float
    noticing_s: float
    mending_s: float

    @property
    def is_recovered(self) -> bool:
        """Whether all tokens came, and the right ones."""
        return self.error is None and self.num_changed == 0


class Executioner:
    """An `Onlooker` that carries the kills of one trial out, each in its moment."""

    def __init__(self, swarm: ChurnSwarm, trial: Trial, usual: Generation) -> None:
        self.num_struck = 0
        self.num_replayed = 0
        self.noticing_s = 0.0
        self.mending_s = 0.0
        self._struck_at: float | None = None
        self._lost_at: float | None = None
        self._swarm = swarm
        self._kills = list(trial.kills)
        self._usual_prefill_s = usual.seconds[0]
        self._usual_step_s = usual_step_s(usual)
        self._loop = asyncio.get_running_loop()
        self._timers: list[asyncio.TimerHandle] = []
        self._session: InferenceSession | None = None

    def prefill_begins(self, session: InferenceSession) -> None:
        """Strike in the prefill, if that is the moment."""
        self._session = session
        moment = self._kills[0].moment
        if isinstance(moment, InPrefill):
            self._strike_in(moment.fraction * self._usual_prefill_s)

    async def token_came(self, num_tokens: int) -> None:
        """Strike now, if that is the moment."""
        moment = self._kills[0].moment if self._kills else None
        if isinstance(moment, AfterTokens) and moment.num_tokens == num_tokens:
            self._strike_in(moment.fraction * self._usual_step_s)

    def event_came(self, event: SessionEvent) -> None:
        """Count what is replayed, and the time of the first repair."""
        if isinstance(event, HopLost) and self._lost_at is None:
            self._lost_at = self._loop.time()
            if self._struck_at is not None:
                self.noticing_s = self._lost_at - self._struck_at
        elif isinstance(event, HopRestored):
            self.num_replayed += event.num_replayed_tokens
            if self._lost_at is not None and self.mending_s == 0:
                self.mending_s = self._loop.time() - self._lost_at

    def stop(self) -> None:
        """Nobody is killed any more."""
        for timer in self._timers:
            timer.cancel()

    def _strike_in(self, seconds: float) -> None:
        self._timers.append(self._loop.call_later(seconds, self._strike))

    def _strike(self) -> None:
        kill = self._kills.pop(0)
        active = self._active(kill)
        if kill.victim is Victim.ACTIVE:
            self._swarm.strike(self._swarm.replica(active), kill.force)
        else:
            self._swarm.strike(self._swarm.standby(kill.stage, active), kill.force)
        self.num_struck += 1
        self._struck_at = self._struck_at or self._loop.time()
        if self._kills and isinstance(self._kills[0].moment, AfterKill):
            self._strike_in(self._kills[0].moment.delay_ms / 1e3)

    def _active(self, kill: Kill) -> PeerId:
        """Return the server in use; while it is being replaced, the one that was in use."""
        assert self._session is not None, "set before the first kill"
        first_block = self._swarm.spans[kill.stage].start
        return next(hop.peer for hop in self._session.route if first_block in hop.blocks)


async def run_undisturbed(
    client: ChurnClient, trial: Trial, *, prompt_tokens: int, num_tokens: int
) -> Generation:
    """Make the tokens of a trial, in which nobody is killed."""
    prompt = client.prompt(trial.seed, prompt_tokens)
    return await client.generate(prompt, num_tokens, seed=trial.seed if trial.do_sample else None)


async def run_trial(
    swarm: ChurnSwarm, client: ChurnClient, trial: Trial, usual: Generation, *, prompt_tokens: int
) -> Outcome:
    """Carry out one trial, and compare it with the undisturbed run.

    All servers must be there of the stages that it strikes; those it has struck are not restored.
    """
    prompt = client.prompt(trial.seed, prompt_tokens)
    seed = trial.seed if trial.do_sample else None
    num_tokens = len(usual.tokens)
    executioner = Executioner(swarm, trial, usual)
    made = Generation((), ())
    error = None
    started_at = time.perf_counter()
    try:
        async with asyncio.timeout(_TRIAL_S):
            made = await client.generate(prompt, num_tokens, seed=seed, onlooker=executioner)
    except (SwarmError, TimeoutError) as caught:
        error = f"{type(caught).__name__} after {time.perf_counter() - started_at:.1f} s: {caught}"
    finally:
        executioner.stop()
    kept = sum(one == other for one, other in zip(made.tokens, usual.tokens, strict=False))
    return Outcome(
        trial=trial,
        num_struck=executioner.num_struck,
        num_changed=num_tokens - kept,
        error=error,
        num_replayed=executioner.num_replayed,
        gap_s=longest_gap_s(made, usual),
        noticing_s=executioner.noticing_s,
        mending_s=executioner.mending_s,
    )
