"""What both OpenAI dialects do: read, admit, generate, and answer whole or as a stream."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog
from starlette.types import Receive, Scope, Send

from app.account import Account
from app.admission import CallerLeftError
from app.api.bodies import parse_json_object, read_body, validate
from app.api.event_stream import EventStream
from app.api.generation import accounted_events, reserved_conversation
from app.api.openai_fields import CompletionFields
from app.api.openai_frames import DONE_FRAME, AnswerShape, Usage, error_frame
from app.api.presence import run_beside, wait_for_disconnect
from app.api.replies import send_error, send_json
from app.context import AppContext, caller_of, context_of, request_id_of
from app.errors import describe_error
from app.inference.requests import FinishReason, GenerationEvent, GenerationRequest, RequestId
from app.observability.metrics import Surface
from app.serving import OfferedModel
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)

Fields = TypeVar("Fields", bound=CompletionFields)


class ShapeFactory(Protocol):
    """Makes the shape of one answer; the classes in `openai_frames` do."""

    def __call__(
        self, request_id: str, model_id: str, created_at: int, *, includes_usage: bool
    ) -> AnswerShape:
        """Return it."""


@dataclass(frozen=True, slots=True)
class Dialect(Generic[Fields]):
    """What tells the two OpenAI dialects apart."""

    surface: Surface
    fields: type[Fields]
    shape: ShapeFactory
    encode: Callable[[OfferedModel, Fields], Awaitable[list[int]]]


class OpenAIEndpoint(Generic[Fields]):
    """The ASGI endpoint of one dialect."""

    def __init__(self, dialect: Dialect[Fields]) -> None:
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        context, stream = context_of(scope), EventStream(send)
        try:
            async with context.admission.admit(self._dialect.surface) as account:
                body = await read_body(receive)
                answer = await run_beside(
                    wait_for_disconnect(receive),
                    self._answer(scope, body, account, stream),
                    on_silence=stream.keep_alive,
                    period_s=context.settings.keep_alive_s,
                )
            if stream.has_started:
                await stream.end()
            else:
                await send_json(send, answer.body, answer.headers)
        except CallerLeftError:
            return
        except Exception as error:
            if not isinstance(error, SwarmError):
                log.exception("generation_crashed")
            if not stream.has_started:
                await send_error(scope, send, error)
                return
            with suppress(CallerLeftError):
                await stream.write(error_frame(describe_error(error)) + DONE_FRAME)
                await stream.end()

    async def _answer(
        self, scope: Scope, body: bytes, account: Account, stream: EventStream
    ) -> "_Answer":
        context, request_id = context_of(scope), request_id_of(scope)
        fields = validate(self._dialect.fields, parse_json_object(body))
        ignored = fields.ignored_fields()
        model = context.gateway.engine.model(fields.model)
        prompt_ids = await self._dialect.encode(model, fields)
        request = _to_request(context, request_id, fields, model, prompt_ids)
        shape = self._dialect.shape(
            request_id, model.id, int(time.time()), includes_usage=fields.includes_usage
        )
        opened = reserved_conversation(context, account, caller_of(scope), request, model.id)
        async with opened as conversation:
            headers = {**account.headers, **({"x-swarmgate-ignored": ignored} if ignored else {})}
            events = accounted_events(conversation, request, account)
            if not fields.stream:
                return _Answer(await _whole_answer(events, account, shape), headers)
            await stream.start(headers)
            await _stream_answer(events, account, shape, stream, fields.includes_usage)
            return _Answer(b"", headers)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A whole answer; for a stream, whose events have been sent, `body` is empty."""

    body: bytes
    headers: Mapping[str, str]


def _to_request(
    context: AppContext,
    request_id: RequestId,
    fields: CompletionFields,
    model: OfferedModel,
    prompt_ids: list[int],
) -> GenerationRequest:
    """Without a wish of the caller, generate what fits, up to a default.

    A prompt that leaves no room asks for one token, so that the engine refuses it by its size.
    """
    room = max(1, model.facts.max_positions - len(prompt_ids))
    default = min(room, context.settings.limits.default_new_tokens)
    return GenerationRequest(
        request_id=request_id,
        prompt_ids=tuple(prompt_ids),
        max_new_tokens=fields.max_new_tokens or default,
        sampling=fields.sampling(model.chat_defaults),
        stop=tuple(fields.stop or ()),
    )


async def _stream_answer(
    events: AsyncGenerator[GenerationEvent, None],
    account: Account,
    shape: AnswerShape,
    stream: EventStream,
    includes_usage: bool,
) -> None:
    opening = shape.opening_frame()
    if opening:
        await stream.write(opening)
    async with aclosing(events):
        async for event in events:
            frame = shape.text_frame(event.text) if event.text else b""
            if event.finish_reason is not None:
                frame += shape.finish_frame(event.finish_reason)
                if includes_usage:
                    frame += shape.usage_frame(_usage(account))
                frame += DONE_FRAME
            if frame:
                await stream.write(frame)


async def _whole_answer(
    events: AsyncGenerator[GenerationEvent, None], account: Account, shape: AnswerShape
) -> bytes:
    texts, reason = [], FinishReason.STOP
    async with aclosing(events):
        async for event in events:
            texts.append(event.text)
            reason = event.finish_reason or reason
    return shape.whole("".join(texts), reason, _usage(account))


def _usage(account: Account) -> Usage:
    return Usage(account.prompt_tokens, account.generated_tokens)
