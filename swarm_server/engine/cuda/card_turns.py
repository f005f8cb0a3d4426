"""Turns on a card that several servers share.

A GPU gives two processes slices of its time. Two steps of 3 ms that meet on it are both done after
6; then both servers talk to their peers, and the card rests. One after the other, the first is done
after 3, and what it has to tell travels while the card works for the second.

    slices    A B A B A B . . A B A B A B . .       . nothing to do
    turns     A A A B B B A A A B B B A A A B

A turn is a lock on a file: the kernel gives it back when a process dies. A second lock says who is
next, so that whoever has just had a turn does not take the following one as well while another
server waits. A server that is stopped while it has the card is passed over after a while.
"""

import fcntl
import os
import stat
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Final

import torch
from torch import Tensor

from swarm_protocol.logs import get_logger
from swarm_server.engine.batch import Begun

log = get_logger(__name__)

MAX_WAIT_S: Final = 0.1
"""After this the card is used out of turn. Steps that take turns last at most some 20 ms."""


class CardTurns:
    """One server's turns on one card. For one thread at a time."""

    def __init__(
        self,
        directory: Path,
        card: str,
        *,
        max_wait_s: float = MAX_WAIT_S,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """Begin without the turn.

        Args:
            directory: where all servers that may share the card keep its locks.
            card: names the card on this machine; part of file names.
            max_wait_s: how long to wait for others.
            clock: in seconds.

        Raises:
            OSError: no files can be written there.
        """
        self._next = _FileLock(directory / f"{card}.next")
        self._turn = _FileLock(directory / f"{card}.turn")
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._asked_at: float | None = None

    def take(self) -> bool:
        """Take the turn if it is free. True: use the card now, then give back; else ask again."""
        if self._next.take() and self._turn.take():
            self._stop_asking()
            return True
        now = self._clock()
        if self._asked_at is None:
            self._asked_at = now
        if now - self._asked_at < self._max_wait_s:
            return False
        log.warning("card_used_out_of_turn", waited_ms=round(1000 * (now - self._asked_at), 1))
        self._stop_asking()
        return True

    def give_back(self) -> None:
        """Let the next server have the card, if this one has the turn. Idempotent."""
        self._turn.release()

    def _stop_asking(self) -> None:
        self._asked_at = None
        self._next.release()


class StepInTurn:
    """A step that is launched when it is its server's turn; the parts of a `Begun`.

    For one thread at a time. The turn is given back as soon as the step has ended or failed.
    """

    def __init__(self, turns: CardTurns, launch: Callable[[], Begun[Tensor]]) -> None:
        """Launch at once if the card is free.

        Raises:
            Exception: whatever `launch` does.
        """
        self._turns = turns
        self._launch = launch
        self._launched: Begun[Tensor] | None = None
        self._launch_in_turn()

    def is_done(self) -> bool:
        """Launch the step if it is its turn now; tell whether it has ended."""
        launched = self._launch_in_turn()
        if launched is None:
            return False
        assert launched.is_done is not None
        try:
            has_ended = launched.is_done()
        except BaseException:
            self._turns.give_back()
            raise
        if has_ended:
            self._turns.give_back()
        return has_ended

    def finish(self) -> Tensor:
        """Wait for the turn and for the step; return the step's outcome."""
        while (launched := self._launch_in_turn()) is None:
            sleep(0)
        try:
            return launched.finish()
        finally:
            self._turns.give_back()

    def _launch_in_turn(self) -> Begun[Tensor] | None:
        if self._launched is None and self._turns.take():
            try:
                self._launched = self._launch()
            except BaseException:
                self._turns.give_back()
                raise
        return self._launched


def turns_on(device: torch.device) -> CardTurns | None:
    """Return the turns on a card among this user's servers; None where that cannot be agreed on."""
    directory = Path(tempfile.gettempdir()) / f"swarmgate-{os.getuid()}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        _check_is_ours(directory)
        return CardTurns(directory, f"card-{torch.cuda.get_device_properties(device).uuid}")
    except OSError as error:
        log.warning("card_turns_unavailable", reason=str(error))
        return None


def _check_is_ours(directory: Path) -> None:
    """Raise `PermissionError` for a directory that another user could write to, or a link."""
    status = directory.lstat()
    is_private = stat.S_ISDIR(status.st_mode) and not stat.S_IMODE(status.st_mode) & 0o022
    if status.st_uid != os.getuid() or not is_private:
        raise PermissionError(f"{directory} is not a directory that only we can write to")


class _FileLock:
    """An exclusive lock on a file; each object competes with all others, in any process."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        weakref.finalize(self, os.close, self._descriptor)
        self._is_held = False

    def take(self) -> bool:
        """Lock it unless somebody else has; tell whether it is ours."""
        if not self._is_held:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._is_held = True
        return True

    def release(self) -> None:
        """Unlock it, if it is ours."""
        if self._is_held:
            self._is_held = False
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
