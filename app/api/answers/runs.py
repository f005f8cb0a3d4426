"""Makes the tokens of one answer: all of its choices, or what is left of them.

Knows conversations and accounts; must not know frames or HTTP.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from app.account import Account
from app.api.answers.choice_turns import ChoiceTurns
from app.api.generation import SwarmNews, context_size, opened_conversation
from app.callers import Caller
from app.context import AppContext
from app.inference.requests import Conversation, GenerationEvent, GenerationRequest
from app.journals.entries import AnswerBegun, Produced
from app.observability.time_spent import Timings

Sink: TypeAlias = Callable[[int, GenerationEvent], Awaitable[None] | None]
"""Takes the number of a choice and its next event; returns what to wait for before the next."""

Opener: TypeAlias = Callable[[int], AbstractAsyncContextManager[Conversation]]
"""Opens a conversation of so many tokens."""


@dataclass(frozen=True, slots=True)
class UnfinishedChoice:
    """A choice that is not finished; `prompt_index` is that of its prompt."""

    index: int
    prompt_index: int
    request: GenerationRequest

    @property
    def max_length(self) -> int:
        """Tokens of its conversation."""
        return context_size(self.request.prompt_ids) + self.request.max_new_tokens


class AnswerRun:
    """Made by `opened_run`; `generate` once.

    Attributes:
        news: give it the journal, once there is one.
    """

    def __init__(
        self,
        choices: Sequence[UnfinishedChoice],
        first: Conversation,
        open_another: Opener,
        account: Account,
        news: SwarmNews,
        turns: ChoiceTurns,
    ) -> None:
        self.news = news
        self._choices = choices
        self._first = first
        self._open_another = open_another
        self._account = account
        self._num_unfinished = len(choices)
        self._turns = turns
        rivals = choices if len(choices) > 1 else ()  # an event holds 0.8 KiB
        self._has_begun = {choice.prompt_index: asyncio.Event() for choice in rivals}
        self._leaders = {choice.prompt_index: choice.index for choice in reversed(rivals)}

    async def generate(self, sink: Sink, *, num_prompt: int) -> None:
        """Give every event to `sink`; an error of one choice is one of the answer.

        Args:
            num_prompt: tokens of the prompts that nobody has accounted for yet.
        """
        self._account.start(self._first.model_id, num_prompt)
        if len(self._choices) == 1:
            await self._generate_only(self._choices[0], sink)
            return
        try:
            async with asyncio.TaskGroup() as group:
                for choice in self._choices:
                    group.create_task(self._generate_one(choice, sink))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    def timings(self) -> Timings:
        """Return where the time went; of further choices, only that they took some."""
        return self._account.times().to_json()

    async def _generate_only(self, choice: UnfinishedChoice, sink: Sink) -> None:
        """What almost all answers do, so nothing stands between the engine and the sink."""
        account, index = self._account, choice.index
        async with aclosing(self._first.generate(choice.request)) as events:
            async for event in events:
                account.add(event)
                room = sink(index, event)
                if room is not None:
                    await room

    async def _generate_one(self, choice: UnfinishedChoice, sink: Sink) -> None:
        """The first choice of a prompt goes ahead: servers then know the prompt of the others."""
        has_begun = self._has_begun[choice.prompt_index]
        if choice.index != self._leaders[choice.prompt_index]:
            await has_begun.wait()
        async with self._turns.turn():
            if choice is self._choices[0]:
                await self._run(self._first, choice, sink)
                return
            async with self._open_another(choice.max_length) as conversation:
                await self._run(conversation, choice, sink)

    async def _run(self, conversation: Conversation, choice: UnfinishedChoice, sink: Sink) -> None:
        async with aclosing(conversation.generate(choice.request)) as events:
            async for event in events:
                self._note(choice, event)
                room = sink(choice.index, event)
                if room is not None:
                    await room
                self._has_begun[choice.prompt_index].set()

    def _note(self, choice: UnfinishedChoice, event: GenerationEvent) -> None:
        """The account has the times of the first choice, and the outcome of the last to end."""
        self._num_unfinished -= event.finish_reason is not None
        if self._num_unfinished:
            event = replace(event, finish_reason=None)
        if choice is self._choices[0]:
            self._account.add(event)
        else:
            self._account.add_beside(event)


@asynccontextmanager
async def opened_run(
    context: AppContext,
    caller: Caller,
    account: Account,
    begun: AnswerBegun,
    produced: Sequence[Produced] = (),
) -> AsyncIterator[AnswerRun]:
    """Reserve the tokens of all choices together and one slot; open a conversation for the first.

    Args:
        produced: what there is of the answer already; at least one choice is not finished.

    Raises:
        SwarmError: a limit, the store or the swarm refuses.
    """
    choices = unfinished_choices(begun, produced)
    news = SwarmNews(context, begun.model_id)

    def open_another(max_length: int) -> AbstractAsyncContextManager[Conversation]:
        return opened_conversation(context, caller, begun.model_id, max_length, news)

    cost = sum(
        choice.request.max_new_tokens - len(choice.request.produced_ids) for choice in choices
    )
    cost += 0 if produced else max(1, begun.num_prompt_tokens)
    if begun.request.constraint is not None and not produced:
        model = context.gateway.engine.model(begun.model_id)
        await model.prepare(begun.request.constraint, caller.tenant)
    await context.admission.reserve(account, caller, begun.model_id, cost)
    turns = ChoiceTurns(lambda: context.admission.spare_slot(begun.model_id))
    async with open_another(choices[0].max_length) as conversation:
        yield AnswerRun(choices, conversation, open_another, account, news, turns)


def unfinished_choices(begun: AnswerBegun, produced: Sequence[Produced]) -> list[UnfinishedChoice]:
    """Return what is left to do, in the order of the choices."""
    ended = {entry.choice for entry in produced if entry.finish_reason is not None}
    known: dict[int, list[int]] = {}
    for entry in produced:
        known.setdefault(entry.choice, []).extend(entry.token_ids)
    return [
        UnfinishedChoice(
            index,
            index // begun.num_choices,
            replace(request, produced_ids=tuple(known.get(index, ()))),
        )
        for index, request in enumerate(begun.choice_requests())
        if index not in ended
    ]
