"""What all surfaces do alike: admit, open, generate, close."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from app.account import Account
from app.api.presence import run_to_the_end
from app.callers import Caller
from app.context import AppContext
from app.inference.requests import Conversation, GenerationEvent, GenerationRequest


def context_size(token_ids: Sequence[int]) -> int:
    """Return the tokens a generation starts from: an empty context gets the model's first one."""
    return max(1, len(token_ids))


@asynccontextmanager
async def reserved_conversation(
    context: AppContext, account: Account, caller: Caller, request: GenerationRequest, model_id: str
) -> AsyncIterator[Conversation]:
    """Reserve the tokens of one request and open a conversation that holds just them.

    Raises:
        SwarmError: a limit, the store or the swarm refuses.
    """
    max_length = context_size(request.prompt_ids) + request.max_new_tokens
    await context.admission.reserve(account, caller, model_id, max_length)
    conversation = await context.gateway.engine.open(
        model_id, max_length=max_length, tenant=caller.tenant
    )
    try:
        yield conversation
    finally:
        await run_to_the_end(conversation.close())


async def accounted_events(
    conversation: Conversation, request: GenerationRequest, account: Account
) -> AsyncGenerator[GenerationEvent, None]:
    """Generate, and note every event in the account.

    Close the iterator (`contextlib.aclosing`) to end the generation early.
    """
    account.start(conversation.model_id, len(request.prompt_ids))
    async with aclosing(conversation.generate(request)) as events:
        async for event in events:
            account.add(event)
            yield event
