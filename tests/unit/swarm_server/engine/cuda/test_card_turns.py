"""Turns on a card: files and processes are real, the card is not needed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from swarm_server.engine.batch import Begun
from swarm_server.engine.cuda.card_turns import CardTurns, StepInTurn, turns_on

HOLD_THE_TURN = """
import sys
from pathlib import Path
from swarm_server.engine.cuda.card_turns import CardTurns
turns = CardTurns(Path(sys.argv[1]), "card")
print(turns.take(), flush=True)
sys.stdin.read()
"""


class Clock:
    """Stands still until told otherwise."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeStep:
    """A step on a device, which ends when the test says so."""

    def __init__(self) -> None:
        self.launches = 0
        self.has_ended = False
        self.error: Exception | None = None

    def launch(self) -> Begun[Tensor]:
        self.launches += 1
        return Begun(lambda: torch.ones(1), self._look)

    def _look(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.has_ended


@pytest.fixture
def server(tmp_path: Path) -> Callable[[], CardTurns]:
    """Returns the turns of one more server on the same card."""
    return lambda: CardTurns(tmp_path, "card")


def test_one_server_at_a_time_has_the_card(server: Callable[[], CardTurns]) -> None:
    """And the other gets it once it is given back."""
    first, second = server(), server()

    assert first.take()
    assert not second.take()
    first.give_back()
    assert second.take()


def test_cards_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """A file belongs to one card."""
    assert CardTurns(tmp_path, "one").take()
    assert CardTurns(tmp_path, "another").take()


def test_who_waits_goes_before_who_just_had_a_turn(server: Callable[[], CardTurns]) -> None:
    """Whoever gives back and asks at once would win every race otherwise."""
    first, second = server(), server()
    assert first.take()
    assert not second.take()

    first.give_back()

    assert not first.take()
    assert second.take()


def test_a_server_that_dies_gives_its_turn_back(tmp_path: Path) -> None:
    """The kernel does it."""
    turns = CardTurns(tmp_path, "card")
    command = [sys.executable, "-c", HOLD_THE_TURN, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not turns.take()

        other.kill()
        other.wait()

        assert turns.take()


def test_a_server_that_stopped_with_the_card_is_passed_over(tmp_path: Path) -> None:
    """After a while the others go on without it, and once it is back they take turns again."""
    clock = Clock()
    stopped, turns = CardTurns(tmp_path, "card"), CardTurns(tmp_path, "card", clock=clock)
    stopped.take()
    assert not turns.take()

    clock.now = 0.2
    assert turns.take()
    turns.give_back()

    assert not turns.take()
    stopped.give_back()
    assert turns.take()


def test_a_step_waits_for_its_turn(server: Callable[[], CardTurns]) -> None:
    """It is launched by whoever looks, and the turn ends with it."""
    other, step = server(), FakeStep()
    other.take()

    waiting = StepInTurn(server(), step.launch)
    waiting.is_done()
    assert step.launches == 0

    other.give_back()
    waiting.is_done()
    assert step.launches == 1
    assert not other.take()
    step.has_ended = True
    assert waiting.is_done()
    assert other.take()
    assert waiting.finish().tolist() == [1.0]


def test_a_step_on_a_free_card_is_launched_at_once(server: Callable[[], CardTurns]) -> None:
    """Nobody need look first."""
    step = FakeStep()

    StepInTurn(server(), step.launch)

    assert step.launches == 1


def test_to_finish_is_to_wait_for_the_turn(server: Callable[[], CardTurns]) -> None:
    """For the compute thread, which does not look."""
    step, other = FakeStep(), server()

    assert StepInTurn(server(), step.launch).finish().tolist() == [1.0]
    assert other.take()


def test_a_step_that_fails_gives_its_turn_back(server: Callable[[], CardTurns]) -> None:
    """Whether the device fails or the launch."""
    step, other = FakeStep(), server()
    failing = StepInTurn(server(), step.launch)
    step.error = RuntimeError("device-side assert")
    with pytest.raises(RuntimeError, match="device-side"):
        failing.is_done()
    assert other.take()
    other.give_back()

    def fail() -> Begun[Tensor]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        StepInTurn(server(), fail)
    assert other.take()


def test_a_directory_of_others_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever could write there could hold our card; then there are no turns, said in the log."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = tmp_path / f"swarmgate-{os.getuid()}"
    directory.mkdir()
    directory.chmod(0o777)

    assert turns_on(torch.device("cpu")) is None
    assert "card_turns_unavailable" in caplog.text
