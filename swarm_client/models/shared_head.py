"""One head product for the rows of all threads that want one at the same time.

A product of sixteen rows takes hardly longer than one of a single row, because the weights are
read once, and processors run one product after the other anyway.

```
thread 1   leads: [ product of row 1 ]
thread 2        row 2 waits ........ leads: [ product of rows 2, 3, 4 ]
thread 3            row 3 waits ....................................... done
thread 4                  row 4 waits ................................. done
```
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

_MAX_ROWS: Final = 64
"""Of one product; bounds the logits that are there at once."""


def _acquired_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Job:
    """Rows of one thread. `logits` is None until they are there, and after a failure.

    Attributes:
        has_turn: released when the thread that waits for it leads, or was served.
    """

    rows: Tensor
    is_leading: bool = False
    has_turn: threading.Lock = field(default_factory=_acquired_lock)
    logits: Tensor | None = None


class SharedHead:
    """Hidden states to float32 logits, without gradients. May be called by any thread.

    Whoever comes while nothing is computed begins at once, and alone. Those who come meanwhile wait
    until that is over; then one of them takes the rows of all.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: list[_Job] = []
        self._is_busy = False

    @property
    def num_waiting(self) -> int:
        """Threads whose turn has not come yet."""
        return len(self._waiting)

    def run(self, head: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Return float32 logits `[num_rows, vocab_size]`, which are the caller's.

        Args:
            head: the same one in all calls, up to whoever wraps it.
            rows: `[num_rows, hidden_size]`, of one device and dtype in all calls.
        """
        if len(rows) > _MAX_ROWS:
            return head(rows).float()
        job = _Job(rows)
        try:
            if not self._begin(job):
                job.has_turn.acquire()
            if job.is_leading:
                self._lead(head)
        finally:
            self._end(job)
        return head(rows).float() if job.logits is None else job.logits

    def _begin(self, job: _Job) -> bool:
        """Take in a job; return whether its thread leads."""
        with self._mutex:
            self._waiting.append(job)
            if not self._is_busy:
                self._is_busy = job.is_leading = True
            return job.is_leading

    def _lead(self, head: Callable[[Tensor], Tensor]) -> None:
        """Compute what waits; the first rows are the own ones."""
        with self._mutex:
            jobs = _fitting(self._waiting)
            del self._waiting[: len(jobs)]
        sizes = [len(job.rows) for job in jobs]
        try:
            # whatever the mode of this thread is: the others may be in another one
            with torch.inference_mode(mode=False), torch.no_grad():
                rows = torch.cat([job.rows for job in jobs]) if len(jobs) > 1 else jobs[0].rows
                parts = torch.split(head(rows).float(), sizes)
            for job, logits in zip(jobs, parts, strict=True):
                job.logits = logits
        finally:  # after a failure, which the leading thread sees, each tries it alone
            for job in jobs[1:]:
                job.has_turn.release()

    def _end(self, job: _Job) -> None:
        """Let the next one lead, and forget a job whose thread was interrupted."""
        with self._mutex:
            if job in self._waiting:
                self._waiting.remove(job)
            if not job.is_leading:
                return
            self._is_busy = bool(self._waiting)
            if self._waiting:
                self._waiting[0].is_leading = True
                self._waiting[0].has_turn.release()


def _fitting(jobs: Sequence[_Job]) -> list[_Job]:
    """Return the first jobs that fit in one product."""
    num_rows = 0
    for index, job in enumerate(jobs):
        num_rows += len(job.rows)
        if num_rows > _MAX_ROWS:
            return list(jobs[:index])
    return list(jobs)
