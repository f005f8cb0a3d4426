"""Streamed answers: a run writes the journal, connections pass it on in the answer's dialect."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress

import structlog
from starlette.types import Receive, Scope, Send

from app.admission import CallerLeftError
from app.api.answers.dialects import ANSWER_DIALECTS
from app.api.answers.event_stream import EventStream
from app.api.answers.frames import AnswerFrames, parse_event_id
from app.api.answers.runs import AnswerRun, opened_run, unfinished_choices
from app.api.answers.writer import AnswerWriter, WriterFactory
from app.api.replies import send_empty, send_error
from app.callers import Caller
from app.closing import SlimAsyncExitStack
from app.context import AppContext, caller_of, context_of
from app.direct_writes import direct_body_of
from app.errors import DrainingError, describe_error
from app.inference.requests import GenerationEvent
from app.journals.entries import AnswerBegun, Produced, Timed, is_end
from app.journals.following import follow
from app.journals.journal import Journal, Reading
from app.presence import run_beside, wait_for_disconnect
from app.state.errors import JournalNotFoundError
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)


class AnswerSender:
    """Sends one answer to one connection, from whichever worker's run.

    Attributes:
        stream: has started once the status was sent; from then on errors are events.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._context, self._caller = context_of(scope), caller_of(scope)
        self._journal_id: str | None = None
        self._frames: AnswerFrames | None = None
        self._writer: WriterFactory | None = None
        stall_timeout_s = self._context.settings.limits.slow_reader_s
        self.stream = EventStream(send, stall_timeout_s, body=direct_body_of(scope))

    async def send_new(self, journal: Journal, headers: Mapping[str, str]) -> None:
        """Send an answer whose run has just been started, from its beginning."""
        frames = AnswerFrames(journal.id, self._open_writer, has_ids=journal.is_kept)
        await self._send_all(journal.id, frames, headers)

    async def send_rest(
        self, journal_id: str, seen: int, writer: WriterFactory | None = None
    ) -> None:
        """Send what comes behind entry number `seen`; status 204 if that is nothing.

        Args:
            writer: of the events, where it is not the one of the answer's dialect.

        Raises:
            JournalNotFoundError: there is no such answer any more.
        """
        self._writer = writer
        frames = AnswerFrames(journal_id, self._open_writer, seen=seen)
        await self._send_all(journal_id, frames, {})

    async def leave(self) -> None:
        """The caller has left: an answer that cannot be resumed ends at once."""
        keeper = self._context.keeper
        if self._journal_id is not None and not keeper.is_keeping:
            await keeper.forget(self._journal_id, self._caller.tenant)

    async def fail(self, error: Exception) -> None:
        """Tell what went wrong; the answer itself is not at its end, so nothing says it is."""
        if not isinstance(error, SwarmError):
            log.exception("answer_crashed")
        if not self.stream.has_started or self._frames is None:
            await send_error(self._scope, self._send, error)
            return
        with suppress(CallerLeftError):
            await self.stream.write(self._frames.error_frame(describe_error(error)))
            await self.stream.end()

    async def _send_all(
        self, journal_id: str, frames: AnswerFrames, headers: Mapping[str, str]
    ) -> None:
        self._journal_id, self._frames = journal_id, frames
        readings = follow(
            self._context.keeper,
            journal_id,
            self._caller.tenant,
            lambda journal: revive_answer(self._context, self._caller, journal),
            self._take_now,
        )
        async with aclosing(readings):
            async for reading in readings:
                data = frames.frames(reading)
                has_ended = bool(reading.entries) and is_end(reading.entries[-1])
                if not self.stream.has_started:
                    if has_ended and not data:
                        await send_empty(self._send)
                        return
                    await self.stream.start(headers)
                if data:
                    await self.stream.write(data)
        await self.stream.end()

    def _take_now(self, reading: Reading) -> bool:
        """Send what has just been written down, in the task of the run; see `following.Taker`."""
        if self._frames is None or not self.stream.is_free:
            return False
        data = self._frames.frames(reading)
        if data:
            self.stream.write_now(data)
        return True

    def _open_writer(self, begun: AnswerBegun) -> AnswerWriter:
        model = self._context.gateway.engine.model(begun.model_id)
        writer = self._writer or ANSWER_DIALECTS[begun.surface].writer
        return writer(begun, model.token_bytes)


async def write_answer(
    journal: Journal, resources: AsyncExitStack, run: AnswerRun, *, num_prompt: int
) -> None:
    """Make the tokens of an answer that are missing; `resources` are closed at the end."""

    def write(choice: int, event: GenerationEvent) -> Awaitable[None] | None:
        journal.append(produced_of(choice, event))
        return None if journal.has_room else journal.wait_room()

    run.news.journal = journal
    async with resources:
        await run.generate(write, num_prompt=num_prompt)
        begun = journal.entries[0]
        if isinstance(begun, AnswerBegun) and begun.includes_timings:
            journal.append(Timed(run.timings()))


def produced_of(choice: int, event: GenerationEvent) -> Produced:
    """Return an event as it is written down."""
    return Produced(event.token_ids, event.text, event.finish_reason, event.logprobs, choice)


async def revive_answer(context: AppContext, caller: Caller, journal: Journal) -> None:
    """Go on with an answer that another run has left; see `app.journals.following.Revive`."""
    begun = journal.entries[0]
    if not isinstance(begun, AnswerBegun):
        raise JournalNotFoundError(journal.id)
    produced = [entry for entry in journal.entries if isinstance(entry, Produced)]
    if not unfinished_choices(begun, produced):
        context.keeper.start(journal, _end())
        return
    async with SlimAsyncExitStack() as stack:
        account = await stack.enter_async_context(context.admission.admit(begun.surface))
        run = await stack.enter_async_context(opened_run(context, caller, account, begun, produced))
        log.info("generation_taken_over", num_produced=len(produced))
        num_prompt = 0 if produced else begun.num_prompt_tokens
        writing = write_answer(journal, stack.pop_all(), run, num_prompt=num_prompt)
        context.keeper.start(journal, writing)


async def _end() -> None:
    """The run of an answer that only lacks its last entry."""


async def resume_answer(scope: Scope, receive: Receive, send: Send, event_id: str) -> None:
    """Serve a request for what comes behind an event."""

    async def send_rest(sender: AnswerSender) -> None:
        journal_id, seen = parse_event_id(event_id, "Last-Event-ID")
        await sender.send_rest(journal_id, seen)

    await serve_kept(scope, receive, send, send_rest)


async def serve_kept(
    scope: Scope, receive: Receive, send: Send, work: Callable[[AnswerSender], Awaitable[None]]
) -> None:
    """Serve a request for something of an answer that has been begun before; never raises."""
    context, sender = context_of(scope), AnswerSender(scope, send)

    async def serve() -> None:
        await work(sender)

    try:
        if context.admission.is_draining:
            raise DrainingError
        await run_beside(
            wait_for_disconnect(receive),
            serve(),
            on_silence=sender.stream.keep_alive,
            period_s=context.settings.keep_alive_s,
        )
    except CallerLeftError:
        await sender.leave()
    except Exception as error:
        await sender.fail(error)
