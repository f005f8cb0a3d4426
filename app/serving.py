"""What the surfaces need of the parts behind them, as Protocols; no behaviour.

`app.inference.SwarmEngine` with its `ServedModel`s is the real thing.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from app.inference.chat_templates import ChatStyle
from app.inference.requests import (
    NO_WISHES,
    ChatMessage,
    ChatTool,
    Engine,
    OutputConstraint,
    PromptWishes,
)
from swarm_client.directory import ServerView
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.models.facts import ModelFacts
from swarm_client.session.events import EventListener
from swarm_protocol.identifiers import BlockRange, PeerId


class CanaryReport(Protocol):
    """How the last canary token of a model fared. `age_s` is None before the first."""

    @property
    def ok(self) -> bool:
        """Whether a token came back, and lately."""

    @property
    def age_s(self) -> float | None:
        """Seconds since the last one came back."""

    @property
    def reason(self) -> str | None:
        """Why it is not ok."""


class LiveServers(Protocol):
    """The live map of one model's servers."""

    def servers(self) -> tuple[ServerView, ...]:
        """Return the servers known now, sorted by first block."""

    def missing_blocks(self) -> tuple[BlockRange, ...]:
        """Return the blocks nobody serves; empty when a route exists."""

    def history_bytes(self) -> int:
        """Return the size of what sessions keep to make up for lost servers."""


class OfferedModel(Protocol):
    """One model the gateway offers."""

    @property
    def id(self) -> str:
        """The name callers use."""

    @property
    def facts(self) -> ModelFacts:
        """Its numbers."""

    @property
    def remote(self) -> LiveServers:
        """Its servers."""

    @property
    def is_demo(self) -> bool:
        """Whether it is a toy, and must be named so."""

    @property
    def created_at(self) -> float:
        """UTC seconds."""

    @property
    def chat_defaults(self) -> SamplingParameters:
        """Used where a caller of the OpenAI surfaces gives no number."""

    async def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the tokens of a text."""

    @property
    def chat_style(self) -> ChatStyle:
        """How it writes calls of tools, and what it thinks."""

    async def render_chat(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ChatTool] = (),
        wishes: PromptWishes = NO_WISHES,
    ) -> str:
        """Return the prompt of a chat, up to where the assistant's answer begins.

        Raises:
            TemplateError: the model has no chat template, or it refuses these messages.
        """

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that one token stands for; none for an unknown one."""

    async def prepare(self, constraint: OutputConstraint, tenant: str) -> None:
        """Find out whether outputs can be kept to a constraint, at the tenant's cost.

        Raises:
            SwarmError: they cannot; see `app.structured.errors`.
        """

    async def mean_hidden_state(
        self,
        token_ids: Sequence[int],
        *,
        tenant: str = "",
        on_event: EventListener | None = None,
    ) -> list[float]:
        """Return the mean of the last hidden states of tokens, `hidden_size` numbers.

        Raises:
            SwarmError: there are none or too many, or the swarm failed.
        """

    def last_canary(self) -> CanaryReport:
        """Return how the last canary token fared."""


class ServingEngine(Engine, Protocol):
    """An engine that knows which models it offers."""

    @property
    def models(self) -> Mapping[str, OfferedModel]:
        """All of them, by id."""

    def model(self, name: str) -> OfferedModel:
        """Return one of them.

        Raises:
            UnknownModelError: there is none of that name.
        """


class NodeIdentity(Protocol):
    """Who the gateway is in the swarm."""

    @property
    def peer_id(self) -> PeerId:
        """Our own identity."""

    @property
    def maddrs(self) -> tuple[str, ...]:
        """Addresses at which others reach us."""
