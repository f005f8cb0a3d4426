"""One inference session on the server: its KV cache, and its steps on the compute thread."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from torch import Tensor

from swarm_server.engine import ComputeThread, Span
from swarm_server.engine.span import Step
from swarm_server.handlers.opening import Opening
from swarm_server.handlers.session_rules import SessionRules
from swarm_server.handlers.step_request import StepRequest, read_step


class ServedSession:
    """Runs the steps of one session, one at a time."""

    def __init__(self, opening: Opening, span: Span, compute: ComputeThread) -> None:
        self._opening = opening
        self._span = span
        self._compute = compute
        self._rules = SessionRules(
            opening.uid, batch_size=opening.batch_size, max_length=opening.max_length
        )
        self._kv = span.new_kv(
            opening.blocks, batch_size=opening.batch_size, max_length=opening.max_length
        )
        self._running: Future[Tensor] | None = None

    @property
    def position(self) -> int:
        """Tokens in the KV cache."""
        return self._kv.position

    async def step(self, request: StepRequest) -> Tensor | None:
        """Run one step; None for a repeated one, which gets no reply.

        Raises:
            RequestRefusedError, MalformedMessageError: the step fails a check; nothing has run.
        """
        self._rules.check_uid(request.uid)
        if self._rules.is_repeated(request.metadata.step_id):
            return None
        step = read_step(request, self._opening.structure, self._opening.limits)
        position = self._rules.starting_position(request.metadata, self._kv.position)
        self._rules.check_step(step.hidden.shape[0], step.hidden.shape[1], position)
        self._running = self._compute.submit(lambda: self._run(step, position))
        return await asyncio.wrap_future(self._running)

    def close(self, release: Callable[[], None]) -> None:
        """Call `release` when no step uses the KV cache any more.

        That is now, or, if the caller has left in the middle of a step, when that step ends.
        """
        loop = asyncio.get_running_loop()
        if self._running is None or self._running.done():
            release()
        else:
            self._running.add_done_callback(lambda _: loop.call_soon_threadsafe(release))

    def _run(self, step: Step, position: int) -> Tensor:
        self._kv.truncate(position)
        adapted = replace(step, adapter=self._opening.adapter)
        return self._span.run(self._opening.blocks, self._kv, adapted)
