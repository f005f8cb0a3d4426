"""What both OpenAI dialects do: read, admit, generate, and answer whole or as a stream."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.types import Receive, Scope, Send

from app.account import Account
from app.admission import CallerLeftError
from app.api.answer_frames import shape_of
from app.api.answers import AnswerSender, resume_answer, write_answer
from app.api.bodies import parse_json_object, read_body, validate
from app.api.generation import SwarmNews, accounted_events, reserved_conversation, with_seed
from app.api.openai_fields import CompletionFields
from app.api.openai_frames import Usage
from app.api.replies import send_json
from app.context import AppContext, caller_of, context_of, request_id_of
from app.inference.requests import Conversation, FinishReason, GenerationRequest, RequestId
from app.journals.entries import AnswerBegun
from app.observability.metrics import Surface
from app.presence import run_beside, wait_for_disconnect
from app.serving import OfferedModel

Fields = TypeVar("Fields", bound=CompletionFields)


@dataclass(frozen=True, slots=True)
class Dialect(Generic[Fields]):
    """What tells the two OpenAI dialects apart."""

    surface: Surface
    fields: type[Fields]
    encode: Callable[[OfferedModel, Fields], Awaitable[list[int]]]


class OpenAIEndpoint(Generic[Fields]):
    """The ASGI endpoint of one dialect."""

    def __init__(self, dialect: Dialect[Fields]) -> None:
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; with `Last-Event-ID`, go on with an earlier one."""
        event_id = dict(scope["headers"]).get(b"last-event-id")
        if event_id is not None:
            await resume_answer(scope, receive, send, event_id.decode("latin-1"))
            return
        context, sender = context_of(scope), AnswerSender(scope, send)
        try:
            async with AsyncExitStack() as stack:
                account = await stack.enter_async_context(
                    context.admission.admit(self._dialect.surface)
                )
                body = await read_body(receive)
                answer = await run_beside(
                    wait_for_disconnect(receive),
                    self._answer(scope, body, sender, stack, account),
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
        fields = validate(self._dialect.fields, parse_json_object(body))
        ignored = fields.ignored_fields()
        model = context.gateway.engine.model(fields.model)
        prompt_ids = await self._dialect.encode(model, fields)
        begun = AnswerBegun(
            surface=self._dialect.surface,
            model_id=model.id,
            created_at=int(time.time()),
            includes_usage=fields.includes_usage,
            request=_to_request(context, request_id_of(scope), fields, model, prompt_ids),
        )
        news = SwarmNews(context, model.id)
        conversation = await stack.enter_async_context(
            reserved_conversation(context, account, caller, begun.request, news, model.id)
        )
        headers = {**account.headers, **({"x-swarmgate-ignored": ignored} if ignored else {})}
        if not fields.stream:
            return _Answer(await _whole_answer(conversation, begun, account), headers)
        news.journal = journal = await context.keeper.create(caller.tenant, begun)
        run = write_answer(journal, stack.pop_all(), conversation, begun.request, account)
        context.keeper.start(journal, run)
        await sender.send_new(journal, headers)
        return None


@dataclass(frozen=True, slots=True)
class _Answer:
    """A whole answer."""

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
    request = GenerationRequest(
        request_id=request_id,
        prompt_ids=tuple(prompt_ids),
        max_new_tokens=fields.max_new_tokens or default,
        sampling=fields.sampling(model.chat_defaults),
        stop=tuple(fields.stop or ()),
    )
    return with_seed(request) if fields.stream else request


async def _whole_answer(conversation: Conversation, begun: AnswerBegun, account: Account) -> bytes:
    texts, reason = [], FinishReason.STOP
    num_prompt = len(begun.request.prompt_ids)
    events = accounted_events(conversation, begun.request, account, num_prompt=num_prompt)
    async with aclosing(events):
        async for event in events:
            texts.append(event.text)
            reason = event.finish_reason or reason
    usage = Usage(account.prompt_tokens, account.generated_tokens)
    return shape_of(begun).whole("".join(texts), reason, usage)
