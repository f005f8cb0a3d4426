"""What all surfaces do alike: admit, open, generate, write down, close."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from app.account import Account
from app.callers import Caller
from app.closing import run_to_the_end
from app.context import AppContext
from app.inference.requests import Conversation, GenerationEvent, GenerationRequest
from app.journals.journal import Journal
from app.journals.notices import notice_of
from app.observability.trace_context import current_request
from swarm_client.session.events import SessionEvent


def context_size(token_ids: Sequence[int]) -> int:
    """Return the tokens a generation starts from: an empty context gets the model's first one."""
    return max(1, len(token_ids))


def with_seed(request: GenerationRequest) -> GenerationRequest:
    """Return the request such that running it again draws the same random numbers."""
    sampling = request.sampling
    if not sampling.do_sample or sampling.seed is not None:
        return request
    return replace(request, sampling=replace(sampling, seed=secrets.randbits(63)))


class SwarmNews:
    """Passes what a session tells on to the metrics, and to those who read the journal.

    Attributes:
        journal: set once there is one.
    """

    def __init__(self, context: AppContext, model_id: str) -> None:
        self._repairs = context.metrics.repairs
        self._model_id = model_id
        self._trace = current_request.get()
        self.journal: Journal | None = None

    def __call__(self, event: SessionEvent) -> None:
        """Take one event."""
        self._repairs.observe(self._model_id, event)
        if self._trace is not None:
            self._trace.happened(event)
        if self.journal is not None:
            self.journal.notify(notice_of(event))


@asynccontextmanager
async def opened_conversation(
    context: AppContext, caller: Caller, model_id: str, max_length: int, news: SwarmNews
) -> AsyncIterator[Conversation]:
    """Open a conversation, and close it whatever happens.

    Raises:
        SwarmError: the swarm refuses.
    """
    conversation = await context.gateway.engine.open(
        model_id, max_length=max_length, tenant=caller.tenant, on_event=news
    )
    try:
        yield conversation
    finally:
        await run_to_the_end(conversation.close())


@asynccontextmanager
async def reserved_conversation(
    context: AppContext,
    account: Account,
    caller: Caller,
    request: GenerationRequest,
    news: SwarmNews,
    model_id: str,
) -> AsyncIterator[Conversation]:
    """Reserve the tokens of one request and open a conversation that holds just them.

    Raises:
        SwarmError: a limit, the store or the swarm refuses.
    """
    max_length = context_size(request.prompt_ids) + request.max_new_tokens
    num_paid = len(request.prompt_ids + request.produced_ids) if request.produced_ids else 0
    await context.admission.reserve(account, caller, model_id, max_length - num_paid)
    async with opened_conversation(context, caller, model_id, max_length, news) as conversation:
        yield conversation


async def accounted_events(
    conversation: Conversation, request: GenerationRequest, account: Account, *, num_prompt: int
) -> AsyncGenerator[GenerationEvent, None]:
    """Generate, and note every event in the account.

    Close the iterator (`contextlib.aclosing`) to end the generation early.

    Args:
        num_prompt: tokens of the prompt that nobody has accounted for yet.
    """
    account.start(conversation.model_id, num_prompt)
    async with aclosing(conversation.generate(request)) as events:
        async for event in events:
            account.add(event)
            yield event
