"""What the public surfaces ask of the engine, and what it answers; no behaviour.

The surfaces depend on these Protocols only, so a benchmark may put another engine behind them.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, NewType, Protocol

from swarm_client.errors import InvalidParametersError
from swarm_client.generation.logprobs import TokenLogprob
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.session.events import EventListener
from swarm_client.session.timings import HopTiming

__all__ = [
    "MAX_LOGPROBS",
    "NO_WISHES",
    "ChatMessage",
    "ChatTool",
    "ChatToolCall",
    "Conversation",
    "Engine",
    "FinishReason",
    "GenerationEvent",
    "GenerationRequest",
    "OutputConstraint",
    "PromptWishes",
    "RequestId",
    "TokenLogprob",
    "TokenTimings",
]

MAX_LOGPROBS: Final = 20

RequestId = NewType("RequestId", str)


class FinishReason(StrEnum):
    """Why a generation ended; the values are OpenAI's."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class ChatTool:
    """A tool that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatToolCall:
    """A call that the assistant has made; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a chat.

    Attributes:
        role: `system`, `user`, `assistant` or `tool`.
        tool_calls: of the assistant; the content may be empty then.
        tool_call_id: of a tool: which call it answers.
        reasoning: of the assistant, if the caller keeps it.
    """

    role: str
    content: str
    tool_calls: tuple[ChatToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class PromptWishes:
    """What a caller wants of a prompt beside its messages and tools.

    Attributes:
        variables: of the model's template, by name.
        continues: the last message is the assistant's, and the answer goes on with it.
        thinks: whether to think before the answer; None is the model's own way.
        effort: how hard to think, in the caller's word; empty is the model's own way.
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    continues: bool = False
    thinks: bool | None = None
    effort: str = ""


NO_WISHES: Final = PromptWishes()


@dataclass(frozen=True, slots=True)
class OutputConstraint:
    """What the output must look like. Plain data: it is kept in journals.

    Attributes:
        text: JSON text of the schema, pattern, JSON list of the choices, or grammar; empty for
            `json_object`.
    """

    kind: Literal["json_object", "json_schema", "regex", "choice", "grammar"]
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One generation, from admission to finish reason.

    Attributes:
        prompt_ids: new tokens to append to the conversation; empty to continue it.
        max_new_tokens: tokens to generate at most, >= 1.
        stop: texts that end the generation wherever they appear in the new text.
        stop_token_ids: tokens that end the generation, beside those of the model.
        keeps_stop: whether the stop text, or the text of a token of `stop_token_ids`, is part of
            the output (Petals) or cut off (OpenAI).
        ignore_eos: the model's own tokens for the end do not end the generation.
        num_logprobs: how many alternatives are named beside each token, 0 to `MAX_LOGPROBS`; None
            for no log-probabilities at all.
        constraint: allows only tokens with which the output can still match it.
        keeps_special_tokens: whether special tokens appear as text; stop texts see them then.
        shown_special_ids: special tokens that appear as text although others do not: marks that
            tell the parts of the output apart.
        produced_ids: tokens of this generation that somebody else has made already. They count,
            as do their random numbers and their part of a stop text; the first event is the next.

    Raises:
        InvalidParametersError: `num_logprobs` is out of range.
    """

    request_id: RequestId
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    stop: tuple[str, ...] = ()
    keeps_stop: bool = False
    keeps_special_tokens: bool = False
    produced_ids: tuple[int, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    num_logprobs: int | None = None
    constraint: OutputConstraint | None = None
    shown_special_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.num_logprobs is not None and not 0 <= self.num_logprobs <= MAX_LOGPROBS:
            expected = f"a whole number from 0 to {MAX_LOGPROBS}"
            raise InvalidParametersError("num_logprobs", expected, self.num_logprobs)


@dataclass(frozen=True, slots=True)
class TokenTimings:
    """Where the time of one step went, in milliseconds.

    `queue_ms` is the wait for a replica, `hops` has one entry per hop of the route, and `head_ms`
    is LM head, sampling and embedding of the batch the token was in.
    """

    queue_ms: float
    hops: tuple[HopTiming, ...]
    head_ms: float


@dataclass(slots=True)  # a frozen one takes three times as long to make, and a token makes one
class GenerationEvent:
    """One or more new tokens. Not to change.

    Attributes:
        text: new text, whole characters only; empty while a character or a possible stop text is
            incomplete.
        token_ids: tokens generated since the previous event.
        finish_reason: set on the last event, and only there.
        timings: of the step behind this event.
        logprobs: one for each token, if the request wants them.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    timings: TokenTimings | None = None
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def num_tokens(self) -> int:
        """How many tokens; the sum over all events is the completion's size."""
        return len(self.token_ids)


class Conversation(Protocol):
    """An open inference session together with the tokens that are its context.

    After an error of `generate` the conversation is closed. Closing, or closing the generator of
    `generate`, frees the servers' KV memory within one step.
    """

    @property
    def model_id(self) -> str:
        """The model it talks to."""

    @property
    def max_length(self) -> int:
        """Tokens it may hold, prompt and output."""

    @property
    def token_ids(self) -> Sequence[int]:
        """All tokens so far; the last generated one may not have run through the blocks yet."""

    @property
    def position(self) -> int:
        """Tokens in the servers' KV caches."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Append the prompt, then yield events until one has a finish reason.

        Raises:
            MaxLengthExceededError: the prompt does not fit `max_length`. A generation that
                reaches `max_length` ends with `LENGTH`.
            SwarmError: the swarm failed; see `swarm_client.errors`.
        """

    async def close(self) -> None:
        """Free everything. Idempotent; never raises."""


class Engine(Protocol):
    """Opens conversations with models."""

    async def open(
        self,
        model_id: str,
        *,
        max_length: int,
        tenant: str = "",
        on_event: EventListener | None = None,
    ) -> Conversation:
        """Open a conversation of at most `max_length` tokens.

        Conversations of one tenant share what servers have computed for equal beginnings.
        `on_event` is told, on the event loop, of servers lost, waited for and replaced.

        Raises:
            UnknownModelError: no such model here.
            PromptTooLongError: `max_length` is over what the model can hold.
            NoRouteError: no online servers cover all blocks.
        """
