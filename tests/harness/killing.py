"""Who is killed when, and how: all of it follows from a seed. Pure; knows no processes.

A `Trial` is one generation and what happens to its servers. `plan_trials` gives trials until they
hold as many kills as asked for.
"""

from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final, TypeAlias

_MAX_PREFILL_FRACTION: Final = 1.2
_MAX_DELAY_MS: Final = 150.0
_NUM_SEEDS: Final = 5
"""Of prompts and samplings: trials with the same one share an undisturbed run."""


class Victim(Enum):
    """Which of a stage's servers is killed: the one in use, or another one."""

    ACTIVE = "active"
    STANDBY = "standby"


class Force(Enum):
    """What is done to a server and its libp2p daemon."""

    PROCESS = "process"  # kill -9 of the server alone
    DAEMON = "daemon"  # kill -9 of its p2pd alone
    BOTH = "both"
    SILENCE = "silence"  # both are stopped: connections stay open, nobody answers


@dataclass(frozen=True, slots=True)
class InPrefill:
    """A moment of the prefill: a share of the time that it usually takes; may be just after it."""

    fraction: float

    def __str__(self) -> str:
        return f"{self.fraction:.2f} of the prefill"


@dataclass(frozen=True, slots=True)
class AfterTokens:
    """When so many tokens have been made, and then a share of a usual step has passed."""

    num_tokens: int
    fraction: float

    def __str__(self) -> str:
        return f"{self.num_tokens + self.fraction:.2f} tokens"


@dataclass(frozen=True, slots=True)
class AfterKill:
    """So long after the trial's kill before: while that is being mended, or just afterwards."""

    delay_ms: float

    def __str__(self) -> str:
        return f"{self.delay_ms:.0f} ms later"


Moment: TypeAlias = InPrefill | AfterTokens | AfterKill


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill of a server of a stage, counted from 0."""

    stage: int
    victim: Victim
    force: Force
    moment: Moment

    def __str__(self) -> str:
        """Return it in a few words."""
        return f"{self.force.value} of {self.victim.value} server {self.stage} {self.moment}"


@dataclass(frozen=True, slots=True)
class Trial:
    """One generation and its kills, each of another stage.

    Attributes:
        seed: of the prompt and of the sampling.
        do_sample: or else it is greedy.
    """

    seed: int
    do_sample: bool
    kills: tuple[Kill, ...]

    def __str__(self) -> str:
        """Return what is killed, and when."""
        return " + ".join(str(kill) for kill in self.kills)


def plan_trials(seed: int, *, num_kills: int, num_stages: int, num_tokens: int) -> list[Trial]:
    """Return the trials that belong to a seed.

    Args:
        seed: of everything.
        num_kills: in all trials together, >= 0.
        num_stages: of the route, >= 2.
        num_tokens: that a trial makes, >= 2; kills come before the last one.
    """
    random = Random(seed)
    trials: list[Trial] = []
    num_left = num_kills
    while num_left:
        num_here = min(num_left, random.choices((1, 2), (3, 1))[0])
        stages = random.sample(range(num_stages), num_here)
        last = num_tokens if num_here == 1 else num_tokens // 2 + 1  # leaves time for another one
        kills = [_first_kill(random, stages[0], last)]
        kills += [
            Kill(stage, Victim.ACTIVE, _force(random), AfterKill(random.uniform(0, _MAX_DELAY_MS)))
            for stage in stages[1:]
        ]
        trials.append(Trial(len(trials) % _NUM_SEEDS, random.random() < 0.5, tuple(kills)))
        num_left -= num_here
    return trials


def _first_kill(random: Random, stage: int, num_tokens: int) -> Kill:
    victim = random.choices((Victim.ACTIVE, Victim.STANDBY), (5, 1))[0]
    if random.random() < 0.3:
        moment: Moment = InPrefill(random.uniform(0, _MAX_PREFILL_FRACTION))
    else:
        moment = AfterTokens(random.randrange(1, num_tokens), random.random())
    return Kill(stage, victim, _force(random), moment)


def _force(random: Random) -> Force:
    return random.choice(tuple(Force))
