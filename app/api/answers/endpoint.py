"""What all dialects with single answers do: read, admit, generate, and answer whole or streamed."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, Protocol

from starlette.types import Receive, Scope, Send

from app.account import Account
from app.admission import CallerLeftError
from app.api.answers.choices import ChoiceReader, WholeChoice
from app.api.answers.dialects import ANSWER_DIALECTS
from app.api.answers.runs import AnswerRun, opened_run
from app.api.answers.streamed import AnswerSender, produced_of, resume_answer, write_answer
from app.api.bodies import parse_json_object, read_body
from app.api.replies import send_json
from app.api.unknown_fields import ignored_header
from app.callers import Caller
from app.closing import SlimAsyncExitStack
from app.context import AppContext, caller_of, context_of, request_id_of
from app.direct_writes import direct_body_of
from app.inference.requests import GenerationEvent, RequestId
from app.journals.entries import AnswerBegun, Closed, Entry, Produced, Timed
from app.observability.metrics import Surface
from app.presence import caller_left, run_beside

_BACKGROUND_S: Final = 3600.0
"""How long a run in the background goes on without readers."""


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """What a caller wants.

    Attributes:
        ignored: names of fields without effect, fit for a header.
        journal_id: of the answer, which is kept even if it is not streamed; None leaves it open.
        is_background: the run goes on although nobody reads; unless it is streamed, the answer is
            what there is at the beginning.
    """

    begun: AnswerBegun
    is_streamed: bool
    ignored: str = ""
    journal_id: str | None = None
    is_background: bool = False


class AnswerPlanner(Protocol):
    """The half of a dialect that reads; the other one is its `AnswerDialect`."""

    @property
    def surface(self) -> Surface:
        """Which surface it is."""

    async def plan(
        self, context: AppContext, caller: Caller, request_id: RequestId, body: Mapping[str, Any]
    ) -> AnswerPlan:
        """Return what is wanted.

        Raises:
            SwarmError: the body is not what the dialect takes, or asks for what is not offered.
        """


class AnswerEndpoint:
    """The ASGI endpoint of one dialect."""

    def __init__(self, planner: AnswerPlanner) -> None:
        self._planner = planner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; with `Last-Event-ID`, go on with an earlier one."""
        event_id = dict(scope["headers"]).get(b"last-event-id")
        if event_id is not None:
            await resume_answer(scope, receive, send, event_id.decode("latin-1"))
            return
        context, sender = context_of(scope), AnswerSender(scope, send)
        try:
            async with SlimAsyncExitStack() as stack:
                account = await stack.enter_async_context(
                    context.admission.admit(self._planner.surface)
                )
                answering = self._answer(scope, await read_body(receive), sender, stack, account)
                answer = await run_beside(
                    caller_left(receive, direct_body_of(scope)),
                    answering,
                    on_silence=sender.stream.keep_alive,
                    period_s=context.settings.keep_alive_s,
                )
            if answer is not None:
                await send_json(send, answer.body, answer.headers)
        except CallerLeftError:
            await sender.leave()
        except Exception as error:
            await sender.fail(error)

    async def _answer(
        self,
        scope: Scope,
        body: bytes,
        sender: AnswerSender,
        stack: AsyncExitStack,
        account: Account,
    ) -> "_Answer | None":
        """Return the whole answer, or None when it was a stream and has been sent."""
        context, caller = context_of(scope), caller_of(scope)
        request_id = request_id_of(scope)
        plan = await self._planner.plan(context, caller, request_id, parse_json_object(body))
        del body  # a stream lives long, and may have been asked for with a megabyte
        begun = plan.begun
        run = await stack.enter_async_context(opened_run(context, caller, account, begun))
        headers = {**account.headers, **ignored_header(plan.ignored)}
        if not plan.is_streamed and not plan.is_background:
            produced = await _whole_answer(begun, run)
            timed = [Timed(run.timings())] if begun.includes_timings else []
            if plan.journal_id is not None:
                entries: list[Entry] = [begun, *produced, *timed, Closed()]
                await context.keeper.keep(plan.journal_id, caller.tenant, entries)
            timing = {"server-timing": account.times().server_timing()}
            body = _write_whole(context, begun, produced, *timed)
            return _Answer(body, {**headers, **timing})
        journal = await context.keeper.create(caller.tenant, begun, plan.journal_id)
        writing = write_answer(journal, stack.pop_all(), run, num_prompt=begun.num_prompt_tokens)
        patience_s = _BACKGROUND_S if plan.is_background else None
        context.keeper.start(journal, writing, abandoned_s=patience_s)
        if not plan.is_streamed:
            return _Answer(_write_whole(context, begun, []), headers)
        await sender.send_new(journal, headers)
        return None


@dataclass(frozen=True, slots=True)
class _Answer:
    """A whole answer."""

    body: bytes
    headers: Mapping[str, str]


async def _whole_answer(begun: AnswerBegun, run: AnswerRun) -> list[Produced]:
    produced: list[Produced] = []

    def take(choice: int, event: GenerationEvent) -> None:
        produced.append(produced_of(choice, event))

    await run.generate(take, num_prompt=begun.num_prompt_tokens)
    return produced


def _write_whole(
    context: AppContext,
    begun: AnswerBegun,
    produced: Sequence[Produced],
    timed: Timed | None = None,
) -> bytes:
    choices = [WholeChoice(ChoiceReader(begun)) for _ in range(begun.total_choices)]
    for entry in produced:
        choices[entry.choice].add(entry)
    model = context.gateway.engine.model(begun.model_id)
    timings = None if timed is None else timed.timings
    return ANSWER_DIALECTS[begun.surface].whole(begun, choices, model.token_bytes, timings)
