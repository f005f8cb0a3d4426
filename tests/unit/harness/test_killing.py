"""Schedules of kills: repeatable, complete, and each of them possible."""

from hypothesis import given
from hypothesis import strategies as st

from tests.harness.killing import (
    AfterKill,
    AfterTokens,
    Force,
    InPrefill,
    Kill,
    Victim,
    plan_trials,
)


def kills_of(seed: int, num_kills: int, num_stages: int = 4) -> list[Kill]:
    trials = plan_trials(seed, num_kills=num_kills, num_stages=num_stages, num_tokens=60)
    return [kill for trial in trials for kill in trial.kills]


@given(seed=st.integers(0, 2**32), num_kills=st.integers(0, 30), num_stages=st.integers(2, 6))
def test_as_many_kills_as_asked_for_of_stages_that_there_are(
    seed: int, num_kills: int, num_stages: int
) -> None:
    """Whatever the seed."""
    kills = kills_of(seed, num_kills, num_stages)

    assert len(kills) == num_kills
    assert all(0 <= kill.stage < num_stages for kill in kills)


@given(seed=st.integers(0, 2**32))
def test_no_stage_is_hit_twice_in_a_trial(seed: int) -> None:
    """Each stage has two servers, and must be left with one."""
    for trial in plan_trials(seed, num_kills=20, num_stages=4, num_tokens=60):
        stages = [kill.stage for kill in trial.kills]
        assert len(set(stages)) == len(stages)


@given(seed=st.integers(0, 2**32))
def test_every_kill_comes_before_its_generation_ends(seed: int) -> None:
    """The last token is still to be made then; and a kill after a kill is never the first one."""
    for trial in plan_trials(seed, num_kills=20, num_stages=4, num_tokens=60):
        first, *later = [kill.moment for kill in trial.kills]
        assert isinstance(first, InPrefill) or (
            isinstance(first, AfterTokens) and 1 <= first.num_tokens < 60
        )
        assert all(isinstance(moment, AfterKill) for moment in later)


def test_a_seed_always_gives_the_same_trials_and_another_one_gives_others() -> None:
    """What failed once can be run again."""
    assert kills_of(1, 50) == kills_of(1, 50)
    assert kills_of(1, 50) != kills_of(2, 50)


def test_a_hundred_kills_are_of_every_kind() -> None:
    """Each way to die, each moment, each stage, servers in use and on standby."""
    kills = kills_of(0, 100)

    assert {kill.force for kill in kills} == set(Force)
    assert {kill.victim for kill in kills} == set(Victim)
    assert {type(kill.moment) for kill in kills} == {InPrefill, AfterTokens, AfterKill}
    assert {kill.stage for kill in kills} == {0, 1, 2, 3}
