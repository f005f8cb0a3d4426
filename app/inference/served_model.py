"""One model that the gateway offers: its facts, its swarm, and its local parts."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.inference.canary import Canary, CanaryState
from app.inference.chat_templates import ChatStyle
from app.inference.pooling import mean_hidden_state
from app.inference.replica_pool import ReplicaPool
from app.inference.requests import NO_WISHES, ChatMessage, ChatTool, OutputConstraint, PromptWishes
from app.inference.token_matcher import MatcherSource
from app.inference.tokenizer import ModelTokenizer
from swarm_client.connection import RemoteModel
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.models.facts import ModelFacts
from swarm_client.session.events import EventListener


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServedModel:
    """What the surfaces may know of a model, and what conversations with it need.

    Attributes:
        id: the name callers use.
        created_at: when it was loaded, UTC.
        chat_defaults: sampling that the model's makers recommend for chats.
        matchers: makes outputs match constraints.
        wait_for_blocks_s: see `EngineSettings`.
    """

    id: str
    facts: ModelFacts
    remote: RemoteModel
    is_demo: bool
    created_at: float
    chat_defaults: SamplingParameters
    tokenizer: ModelTokenizer
    replicas: ReplicaPool
    canary: Canary
    matchers: MatcherSource
    wait_for_blocks_s: float

    async def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the token ids of a text."""
        return await asyncio.to_thread(
            self.tokenizer.encode, text, add_special_tokens=add_special_tokens
        )

    @property
    def chat_style(self) -> ChatStyle:
        """How the model writes what is not plain text."""
        return self.tokenizer.chat_style

    async def render_chat(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ChatTool] = (),
        wishes: PromptWishes = NO_WISHES,
    ) -> str:
        """Return the text of the prompt for the next answer.

        Raises:
            TemplateError: the messages cannot be made into a prompt.
        """
        return await asyncio.to_thread(self.tokenizer.render_chat, messages, tools, wishes)

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        return await asyncio.to_thread(self.tokenizer.decoder(keeps_special_tokens=True), token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that one token stands for; takes a microsecond."""
        return self.tokenizer.token_bytes(token_id)

    async def prepare(self, constraint: OutputConstraint, tenant: str) -> None:
        """Compile a constraint; raises what `MatcherSource.prepare` does."""
        await self.matchers.prepare(constraint, tenant)

    async def mean_hidden_state(
        self,
        token_ids: Sequence[int],
        *,
        tenant: str = "",
        on_event: EventListener | None = None,
    ) -> list[float]:
        """Return an embedding of tokens; see `app.inference.pooling`."""
        return await mean_hidden_state(
            self.remote, self.replicas, token_ids, tenant=tenant, on_event=on_event
        )

    def last_canary(self) -> CanaryState:
        """Return whether a token of this model has come back lately."""
        return self.canary.state()
