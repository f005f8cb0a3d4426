"""`WS /api/v2/generate`: conversations in the Petals dialect, token by token.

The rules are in `petals_dialogue`, the frames in `petals_socket`; here they meet the engine.
"""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final
from uuid import uuid4

import structlog
from starlette.websockets import WebSocket

from app.account import Account
from app.admission import CallerLeftError
from app.api.generation import accounted_events, context_size
from app.api.petals_dialogue import OK_REPLY, ReplySplitter, read_generate, read_opening
from app.api.petals_fields import OpenMessage
from app.api.petals_socket import PetalsSocket, accept, is_origin_allowed, refuse_socket
from app.api.presence import run_beside, run_to_the_end
from app.callers import Caller
from app.context import AppContext, caller_of, context_of, request_id_of
from app.errors import ForeignOriginError
from app.inference.requests import Conversation, GenerationRequest, RequestId
from app.observability.metrics import Surface
from app.state.conversations import ConversationRecord
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)

_IDLE_TIMEOUT_S: Final = 300.0
_RECORD_TTL_S: Final = 3600.0


async def petals_v2(websocket: WebSocket) -> None:
    """Serve one connection until the caller leaves or something goes wrong."""
    scope, receive, send = websocket.scope, websocket.receive, websocket.send
    context = context_of(scope)
    if not is_origin_allowed(scope, context.settings.allowed_origins):
        error = ForeignOriginError()
        context.metrics.refused.labels(error.code).inc()
        await refuse_socket(receive, send, error)
        return
    await accept(receive, send)
    socket = PetalsSocket(receive, send)
    talk = Talk(context, socket, caller_of(scope), request_id_of(scope))
    with suppress(CallerLeftError):
        await run_beside(socket.read(), talk.run())


class Talk:
    """One caller's conversation with one model."""

    def __init__(
        self, context: AppContext, socket: PetalsSocket, caller: Caller, request_id: RequestId
    ) -> None:
        self._context = context
        self._engine = context.gateway.engine
        self._records = context.gateway.store.conversations
        self._socket = socket
        self._caller = caller
        self._request_id = request_id

    async def run(self) -> None:
        """Answer message after message; an error is told to the caller and ends the talk.

        Raises:
            CallerLeftError: the caller left, or said nothing for too long.
        """
        try:
            with self._context.admission.conversation():
                await self._converse()
        except CallerLeftError:
            raise
        except SwarmError as error:
            await self._socket.fail(error)
        except Exception as error:
            log.exception("conversation_crashed")
            await self._socket.fail(error)

    async def _converse(self) -> None:
        with self._context.metrics.refusals():
            opening = read_opening(await self._socket.next_text(_IDLE_TIMEOUT_S))
            record = self._new_record(opening)
            await self._records.create(record)
        try:
            async with self._opened(record) as conversation:
                await self._socket.send_text(OK_REPLY)
                await self._answer_all(conversation, record)
        finally:
            await self._forget(record)

    def _new_record(self, opening: OpenMessage) -> ConversationRecord:
        return ConversationRecord(
            conversation_id=uuid4().hex,
            owner=self._caller.owner,
            model=self._engine.model(opening.model).id,
            max_length=opening.max_length,
            token_ids=(),
            position=0,
            expires_at=time.time() + _RECORD_TTL_S,
        )

    @asynccontextmanager
    async def _opened(self, record: ConversationRecord) -> AsyncIterator[Conversation]:
        with self._context.metrics.refusals():
            conversation = await self._engine.open(
                record.model, max_length=record.max_length, tenant=self._caller.tenant
            )
        try:
            yield conversation
        finally:
            await run_to_the_end(conversation.close())

    async def _answer_all(self, conversation: Conversation, record: ConversationRecord) -> None:
        num_recorded = 0
        while True:
            with self._context.metrics.refusals():
                text = await self._socket.next_text(_IDLE_TIMEOUT_S)
            async with self._context.admission.admit(Surface.PETALS_V2) as account:
                await self._answer(conversation, text, account)
            await self._records.append(
                record.conversation_id,
                owner=record.owner,
                token_ids=conversation.token_ids[num_recorded:],
                position=conversation.position,
                ttl_s=_RECORD_TTL_S,
            )
            num_recorded = len(conversation.token_ids)

    async def _answer(self, conversation: Conversation, text: str, account: Account) -> None:
        message = read_generate(text)
        model = self._engine.model(conversation.model_id)
        prompt_ids = await model.encode(message.inputs) if message.inputs else []
        splitter = ReplySplitter(
            message,
            num_context=context_size([*conversation.token_ids, *prompt_ids]),
            max_length=conversation.max_length,
        )
        request = GenerationRequest(
            request_id=self._request_id,
            prompt_ids=tuple(prompt_ids),
            max_new_tokens=splitter.max_new_tokens,
            sampling=message.sampling(),
            stop=message.stop,
            keeps_stop=True,
            keeps_special_tokens=True,
        )
        cost = len(prompt_ids) + splitter.max_new_tokens
        await self._context.admission.reserve(account, self._caller, model.id, cost)
        async with aclosing(accounted_events(conversation, request, account)) as events:
            async for event in events:
                for reply in splitter.add(event):
                    await self._socket.send_text(reply)

    async def _forget(self, record: ConversationRecord) -> None:
        try:
            await self._records.delete(record.conversation_id, owner=record.owner)
        except SwarmError as error:
            log.warning("conversation_not_forgotten", error=error.code)  # it expires by itself
