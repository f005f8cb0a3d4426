"""The run of a Petals conversation: takes messages, generates, and writes the journal.

Knows no sockets: messages come from the journal's inbox, and whoever reads the journal replies.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from app.account import Account
from app.admission import Place
from app.api.generation import (
    SwarmNews,
    context_size,
    opened_conversation,
    with_seed,
)
from app.api.petals.dialogue import check_end, plan_turn, read_generate
from app.callers import Caller
from app.context import AppContext
from app.errors import DrainingError, HandedOverError
from app.inference.requests import Conversation, FinishReason, GenerationRequest, RequestId
from app.journals.entries import ConversationBegun, Entry, Produced, TurnBegun, TurnEnded
from app.journals.journal import Journal
from app.observability.metrics import Surface
from app.state.errors import JournalNotFoundError
from swarm_client.errors import MaxLengthExceededError
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)

_IDLE_TIMEOUT_S: Final = 300.0


@dataclass(slots=True)
class TalkState:
    """A conversation as its journal tells it.

    Attributes:
        context_ids: tokens of all turns that have ended.
        turn: the one that has not, with what was `produced` in it.
    """

    context_ids: list[int] = field(default_factory=list)
    turn: TurnBegun | None = None
    produced: list[Produced] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "TalkState":
        """Read a journal."""
        state = cls()
        for entry in entries:
            match entry:
                case TurnBegun():
                    state.turn, state.produced = entry, []
                case Produced():
                    state.produced.append(entry)
                case TurnEnded():
                    state.context_ids += entry.context_ids
                    state.turn = None
        return state


class Talk:
    """One caller's conversation with one model, as long as it runs on this worker."""

    def __init__(
        self,
        context: AppContext,
        caller: Caller,
        request_id: RequestId,
        journal: Journal,
        conversation: Conversation,
    ) -> None:
        self._context = context
        self._caller = caller
        self._request_id = request_id
        self._journal = journal
        self._conversation = conversation
        self._state = TalkState.of(journal.entries)

    async def run(self, resources: AsyncExitStack) -> None:
        """Answer message after message until none comes; `resources` are closed at the end.

        Raises:
            HandedOverError: the gateway stops, and another one can go on.
            SwarmError: anything else that ends the conversation.
        """
        async with resources:
            if self._state.turn is not None:
                async with self._context.admission.admit(Surface.PETALS_V2) as account:
                    await self._generate(self._state.turn, account)
            with suppress(TimeoutError):
                while True:
                    await self._answer(await self._next_message())

    async def _next_message(self) -> str:
        """Return what the caller says next.

        Raises:
            TimeoutError: nothing, for a long time.
            SwarmError: it was no text, or the gateway stops.
        """
        coming = asyncio.ensure_future(self._journal.inbox.get())
        draining = asyncio.ensure_future(self._context.admission.draining.wait())
        try:
            async with asyncio.timeout(_IDLE_TIMEOUT_S):
                await asyncio.wait({coming, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                raise HandedOverError if self._journal.is_kept else DrainingError
            message = coming.result()
        finally:
            coming.cancel()
            draining.cancel()
        if isinstance(message, SwarmError):
            raise message
        return message

    async def _answer(self, text: str) -> None:
        async with self._context.admission.admit(Surface.PETALS_V2) as account:
            turn = await self._begin_turn(text)
            cost = len(turn.request.prompt_ids) + turn.request.max_new_tokens
            model_id = self._conversation.model_id
            await self._context.admission.reserve(account, self._caller, model_id, cost)
            self._journal.append(turn)
            await self._context.keeper.save(self._journal)  # who goes on must know the seed
            self._state.turn, self._state.produced = turn, []
            await self._generate(turn, account)

    async def _begin_turn(self, text: str) -> TurnBegun:
        message = read_generate(text)
        model = self._context.gateway.engine.model(self._conversation.model_id)
        prompt_ids = await model.encode(message.inputs) if message.inputs else []
        plan = plan_turn(
            message,
            num_context=context_size([*self._state.context_ids, *prompt_ids]),
            max_length=self._conversation.max_length,
        )
        request = GenerationRequest(
            request_id=self._request_id,
            prompt_ids=tuple(prompt_ids),
            max_new_tokens=plan.max_new_tokens,
            sampling=message.sampling(model.facts.vocab_size),
            stop_token_ids=tuple(message.stop_token_ids or ()),
            ignore_eos=message.ignore_eos,
            stop=message.stop,
            keeps_stop=True,
            keeps_special_tokens=True,
        )
        return TurnBegun(with_seed(request), plan)

    async def _generate(self, turn: TurnBegun, account: Account) -> None:
        """Write a turn, or what is missing of it."""
        num_generated = sum(len(entry.token_ids) for entry in self._state.produced)
        num_prompt = 0 if num_generated else len(turn.request.prompt_ids)
        request = self._request_of(turn.request)
        conversation = self._conversation
        failure = None
        account.start(conversation.model_id, num_prompt)
        async with aclosing(conversation.generate(request)) as events:
            async for event in events:
                account.add(event)
                num_generated += event.num_tokens
                reason = event.finish_reason
                if reason is None:
                    self._journal.append(Produced(event.token_ids, event.text))
                    if not self._journal.has_room:
                        await self._journal.wait_room()
                    continue
                failure = _failure_of(turn, reason, num_generated)
                reason = None if failure else reason
                context_ids = conversation.token_ids[len(self._state.context_ids) :]
                self._journal.append(
                    Produced(event.token_ids, event.text, reason), TurnEnded(tuple(context_ids))
                )
                self._state.context_ids += context_ids
        if failure is not None:
            raise failure
        self._state.turn = None

    def _request_of(self, request: GenerationRequest) -> GenerationRequest:
        """Return what is to be asked of the engine, whose conversation may be a new one."""
        produced_ids = [i for entry in self._state.produced for i in entry.token_ids]
        rest = self._state.context_ids[len(self._conversation.token_ids) :]
        return replace(
            request,
            prompt_ids=(*rest, *request.prompt_ids),
            produced_ids=tuple(produced_ids),
        )


def _failure_of(
    turn: TurnBegun, reason: FinishReason, num_generated: int
) -> MaxLengthExceededError | None:
    try:
        check_end(turn.plan, reason, num_generated)
    except MaxLengthExceededError as error:
        return error
    return None


async def open_talk(
    context: AppContext, caller: Caller, request_id: RequestId, begun: ConversationBegun
) -> Journal:
    """Begin a conversation; its run has started when this returns.

    Raises:
        SwarmError: there is no place, or the swarm or the store refuses.
    """
    news = SwarmNews(context, begun.model_id)
    async with AsyncExitStack() as stack:
        conversation = await _open(context, caller, begun, news, stack)
        news.journal = journal = await context.keeper.create(caller.tenant, begun)
        talk = Talk(context, caller, request_id, journal, conversation)
        context.keeper.start(journal, talk.run(stack.pop_all()))
    return journal


async def revive_talk(
    context: AppContext, caller: Caller, request_id: RequestId, journal: Journal
) -> None:
    """Go on with a conversation that another run has left; see `following.Revive`."""
    begun = journal.entries[0]
    if not isinstance(begun, ConversationBegun):
        raise JournalNotFoundError(journal.id)
    news = SwarmNews(context, begun.model_id)
    news.journal = journal
    async with AsyncExitStack() as stack:
        conversation = await _open(context, caller, begun, news, stack)
        talk = Talk(context, caller, request_id, journal, conversation)
        log.info("conversation_taken_over", num_entries=len(journal.entries))
        context.keeper.start(journal, talk.run(stack.pop_all()))


async def _open(
    context: AppContext,
    caller: Caller,
    begun: ConversationBegun,
    news: SwarmNews,
    stack: AsyncExitStack,
) -> Conversation:
    caller.check_model(begun.model_id)
    stack.enter_context(context.admission.place(Place.CONVERSATION, caller))
    return await stack.enter_async_context(
        opened_conversation(context, caller, begun.model_id, begun.max_length, news)
    )
