import random

import pytest

from swarm_protocol.checkpoint.retries import Retries


class Attempts:
    """Fails a number of times; time passes only while it sleeps."""

    def __init__(self, num_failures: int) -> None:
        self.num_failures = num_failures
        self.num_calls = 0
        self.now = 100.0
        self.pauses: list[float] = []

    def __call__(self) -> str:
        self.num_calls += 1
        if self.num_calls <= self.num_failures:
            raise OSError(self.num_calls)
        return "done"

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)

    def retries(self, retry_s: float) -> Retries:
        return Retries(retry_s, clock=lambda: self.now, sleep=self.sleep, jitter=random.Random(0))


def test_what_works_at_once_waits_for_nothing() -> None:
    """Retries cost nothing when there is no fault."""
    attempts = Attempts(0)

    assert attempts.retries(60).run(attempts, may_pass=lambda _: True) == "done"
    assert attempts.pauses == []


def test_pauses_double_up_to_their_limit_and_are_jittered() -> None:
    """Many machines must not come back at the same moment."""
    attempts = Attempts(7)

    assert attempts.retries(60).run(attempts, may_pass=lambda _: True) == "done"
    bases = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert all(
        base / 2 <= pause <= base for base, pause in zip(bases, attempts.pauses, strict=True)
    )


def test_no_attempt_begins_behind_the_deadline() -> None:
    """The last error is the one that is told."""
    attempts = Attempts(1000)

    with pytest.raises(OSError) as raised:  # noqa: PT011 - its argument is checked
        attempts.retries(10).run(attempts, may_pass=lambda _: True)
    assert raised.value.args == (attempts.num_calls,)
    assert attempts.now <= 110
    assert attempts.num_calls == len(attempts.pauses) + 1


def test_an_error_that_will_not_pass_is_raised_at_once() -> None:
    """A repository that does not exist will not exist in a second either."""
    attempts = Attempts(1)

    with pytest.raises(OSError, match="1"):
        attempts.retries(60).run(attempts, may_pass=lambda _: False)
    assert attempts.num_calls == 1
