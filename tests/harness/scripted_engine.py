"""An engine that says what a test tells it to: a stand-in at the `ServingEngine` Protocol.

For tests of the surfaces only; a token is a character. Conversations obey the Protocol: they end
at `max_length`, at a stop text and at the script's end, and are closed exactly once.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from math import inf

import httpx2
from fastapi import FastAPI

from app.gateway import Gateway, GatewayFactory
from app.inference.chat_templates import ChatStyle
from app.inference.errors import PromptTooLongError, TemplateError, UnknownModelError
from app.inference.requests import (
    NO_WISHES,
    ChatMessage,
    ChatTool,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    OutputConstraint,
    PromptWishes,
    TokenTimings,
)
from app.main import create_app
from app.settings import Settings
from app.state.memory import MemoryStateStore
from app.state.store import StateStore
from app.structured.errors import InvalidGrammarError
from swarm_client.directory import ServerView
from swarm_client.errors import MaxLengthExceededError
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.models.facts import ModelFacts
from swarm_client.session.events import EventListener
from swarm_client.session.timings import HopTiming
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.records import ServerState

FACTS = ModelFacts(
    source="models/demo",
    model_type="llama",
    dht_prefix="demo",
    num_blocks=8,
    hidden_size=64,
    vocab_size=256,
    max_positions=512,
    eos_token_ids=(0,),
    bos_token_id=1,
    pad_token_id=0,
)
SERVER = ServerView(
    peer=PeerId("QmServer"),
    blocks=BlockRange(0, 8),
    state=ServerState.ONLINE,
    throughput=1.0,
    public_name=None,
    version="swarmgate/0.1.0",
    dtype="float32",
    cache_tokens_left=1000,
    ping_s=0.0004,
    is_banned=False,
)
TIMINGS = TokenTimings(
    queue_ms=0.0, hops=(HopTiming(SERVER.peer, SERVER.blocks, 0.0),), head_ms=0.0
)


@dataclass(slots=True)
class ScriptedCanary:
    """A canary with a given outcome."""

    ok: bool = True
    age_s: float | None = 1.0
    reason: str | None = None


@dataclass(slots=True)
class ScriptedServers:
    """One server that holds everything, unless told otherwise."""

    gaps: tuple[BlockRange, ...] = ()
    num_history_bytes: int = 0

    def servers(self) -> tuple[ServerView, ...]:
        """Return the server."""
        return (SERVER,)

    def missing_blocks(self) -> tuple[BlockRange, ...]:
        """Return the gaps."""
        return self.gaps

    def history_bytes(self) -> int:
        """Return what was set."""
        return self.num_history_bytes


@dataclass(slots=True)
class ScriptedModel:
    """An `OfferedModel` whose tokens are characters."""

    id: str = "demo"
    facts: ModelFacts = FACTS
    remote: ScriptedServers = field(default_factory=ScriptedServers)
    is_demo: bool = True
    created_at: float = 1_700_000_000.0
    chat_defaults: SamplingParameters = field(default_factory=SamplingParameters)
    canary: ScriptedCanary = field(default_factory=ScriptedCanary)
    chat_style: ChatStyle = field(default_factory=ChatStyle)
    messages: Sequence[ChatMessage] = ()  # of the last chat, and its tools
    tools: Sequence[ChatTool] = ()
    prompt_wishes: PromptWishes = NO_WISHES
    constraints: list[tuple[OutputConstraint, str]] = field(default_factory=list)  # with tenants

    async def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Return the code of each character, folded into the vocabulary."""
        first = [1] if add_special_tokens else []
        return first + [ord(character) % 256 for character in text]

    async def prepare(self, constraint: OutputConstraint, tenant: str) -> None:
        """Note it; a pattern with an open bracket is invalid."""
        if constraint.text == "(":
            raise InvalidGrammarError("the regex cannot be used: unclosed group")
        self.constraints.append((constraint, tenant))

    async def render_chat(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ChatTool] = (),
        wishes: PromptWishes = NO_WISHES,
    ) -> str:
        """Return all contents, one after the other."""
        if messages[-1].role == "assistant" and not wishes.continues:
            raise TemplateError("the last message must not be the assistant's")
        self.messages, self.tools, self.prompt_wishes = messages, tools, wishes
        return "".join(message.content for message in messages)

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Return a character per token."""
        return "".join(map(chr, token_ids))

    def token_bytes(self, token_id: int) -> bytes:
        """Return the character's bytes."""
        return chr(token_id).encode()

    async def mean_hidden_state(
        self,
        token_ids: Sequence[int],
        *,
        tenant: str = "",
        on_event: EventListener | None = None,
    ) -> list[float]:
        """Return the tokens' mean and their number."""
        return [sum(token_ids) / len(token_ids), float(len(token_ids))]

    def last_canary(self) -> ScriptedCanary:
        """Return the outcome."""
        return self.canary


class ScriptedConversation:
    """Says the script's next characters, one per event."""

    def __init__(self, engine: "ScriptedEngine", model_id: str, max_length: int) -> None:
        self._engine = engine
        self.model_id = model_id
        self.max_length = max_length
        self.token_ids: list[int] = []
        self.is_closed = False

    @property
    def position(self) -> int:
        """All but the last token have run."""
        return max(0, len(self.token_ids) - 1)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Yield the script, character by character."""
        engine = self._engine
        engine.requests.append(request)
        if len(self.token_ids) + len(request.prompt_ids) >= self.max_length:
            raise MaxLengthExceededError(
                self.position, len(request.prompt_ids) + 1, self.max_length
            )
        self.token_ids += (*request.prompt_ids, *request.produced_ids)
        said = "".join(engine.next_character() for _ in request.produced_ids)
        for num_tokens in range(len(said) + 1, request.max_new_tokens + 1):
            if num_tokens > engine.num_before_hold:
                engine.is_holding.set()
                await engine.released.wait()
            if engine.error is not None and num_tokens > engine.num_before_error:
                raise engine.error
            character = engine.next_character()
            said += character
            token_id = ord(character[:1] or "\0") % 256
            self.token_ids.append(token_id)
            reason = self._finish_reason(request, said, num_tokens, is_end=not character)
            yield GenerationEvent(character, (token_id,), reason, TIMINGS)
            if reason is not None:
                return

    def _finish_reason(
        self, request: GenerationRequest, said: str, num_tokens: int, *, is_end: bool
    ) -> FinishReason | None:
        if is_end or any(text in said for text in request.stop):
            return FinishReason.STOP
        if num_tokens == request.max_new_tokens or len(self.token_ids) >= self.max_length:
            return FinishReason.LENGTH
        return None

    async def close(self) -> None:
        """Count the conversation out."""
        if not self.is_closed:
            self.is_closed = True
            self._engine.num_open -= 1


class ScriptedEngine:
    """A `ServingEngine` with one model.

    Attributes:
        script: what is said next, whoever asks; an end-of-text token when it is used up.
        num_before_hold: tokens of a generation that come freely; the next waits for `released`.
        is_holding: set when a generation waits.
        error: raised by `generate` after `num_before_error` tokens; by `open` if `open_error`.
        num_open: conversations open now.
        on_event: listener of the conversation that was opened last.
    """

    def __init__(self, script: str = "Hello!") -> None:
        self.script = script
        self.num_before_hold: float = inf
        self.is_holding = asyncio.Event()
        self.released = asyncio.Event()
        self.error: Exception | None = None
        self.num_before_error = 0
        self.open_error: Exception | None = None
        self.num_open = 0
        self.on_event: EventListener | None = None
        self.requests: list[GenerationRequest] = []
        self.demo = ScriptedModel()

    @property
    def models(self) -> Mapping[str, ScriptedModel]:
        """The one model."""
        return {self.demo.id: self.demo}

    def model(self, name: str) -> ScriptedModel:
        """Return the model."""
        if name != self.demo.id:
            raise UnknownModelError(name, self.models)
        return self.demo

    async def open(
        self,
        model_id: str,
        *,
        max_length: int,
        tenant: str = "",
        on_event: EventListener | None = None,
    ) -> ScriptedConversation:
        """Open a conversation and count it."""
        self.on_event = on_event
        if self.open_error is not None:
            raise self.open_error
        if max_length > FACTS.max_positions:
            raise PromptTooLongError(max_length, FACTS.max_positions)
        self.num_open += 1
        return ScriptedConversation(self, model_id, max_length)

    def next_character(self) -> str:
        """Take one character off the script; empty at its end."""
        character, self.script = self.script[:1], self.script[1:]
        return character


class ScriptedNode:
    """Who the gateway is."""

    peer_id = PeerId("QmGateway")
    maddrs = ("/ip4/127.0.0.1/tcp/1/p2p/QmGateway",)


def scripted_gateway(engine: ScriptedEngine, store: StateStore | None = None) -> GatewayFactory:
    """Return what `create_app` takes as `gateway`."""
    parts = Gateway(ScriptedNode(), engine, store or MemoryStateStore())

    def open_scripted(settings: Settings) -> AbstractAsyncContextManager[Gateway]:
        return nullcontext(parts)

    return open_scripted


@asynccontextmanager
async def running_app(
    engine: ScriptedEngine, settings: Settings | None = None, store: StateStore | None = None
) -> AsyncIterator[FastAPI]:
    """Run the real app on a scripted engine."""
    app = create_app(settings or Settings(), gateway=scripted_gateway(engine, store))
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def http_client(
    engine: ScriptedEngine, settings: Settings | None = None, store: StateStore | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    """Run the real app, and yield a client of it."""
    async with (
        running_app(engine, settings, store) as app,
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://gateway"
        ) as client,
    ):
        yield client
