"""What is written into a journal, as values and as bytes. Pure.

An answer:        AnswerBegun  Produced … Produced  [ Timed ]  Closed
A conversation:   ConversationBegun  ( TurnBegun  Produced … Produced  TurnEnded ) …  Closed

`Failed` may end either at any place. The place of an entry is its number, which callers see; so
the order above is part of the public interface, and the fields are not.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from app.errors import ErrorReply
from app.inference.requests import FinishReason, GenerationRequest, TokenLogprob
from app.observability.metrics import Surface
from app.observability.time_spent import Timings
from app.output.formats import OutputFormat
from swarm_client.generation.parameters import SamplingParameters
from swarm_protocol.errors import SwarmError


class JournalUnreadableError(SwarmError):
    """An entry is not one that this version writes."""

    code = "journal_unreadable"

    def __init__(self) -> None:
        super().__init__("what is kept of this generation cannot be read")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerBegun:
    """One answer, and what it looks like.

    Its choices are numbered prompt by prompt: with `num_choices=3`, number 4 is the second one of
    the second prompt.

    Attributes:
        request: the first choice. It holds a seed if it samples, so that whoever goes on draws the
            same numbers.
        more_prompts: tokens of further prompts.
        num_choices: of each prompt.
        output: what to look for in the text; None for nothing.
        includes_timings: whether the answer tells where its time went.
        details: JSON of what else the surface needs to write the answer down; empty for nothing.
    """

    surface: Surface
    model_id: str
    created_at: int
    includes_usage: bool
    request: GenerationRequest
    more_prompts: tuple[tuple[int, ...], ...] = ()
    num_choices: int = 1
    details: str = ""
    output: OutputFormat | None = None
    includes_timings: bool = False
    kind: Literal["answer_begun"] = "answer_begun"

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of all prompts; choices share them."""
        return len(self.request.prompt_ids) + sum(map(len, self.more_prompts))

    @property
    def total_choices(self) -> int:
        """Choices of all prompts."""
        return self.num_choices * (1 + len(self.more_prompts))

    def choice_requests(self) -> list[GenerationRequest]:
        """Return one request per choice; their seeds follow each other, from each prompt anew."""
        return [
            replace(
                self.request,
                prompt_ids=prompt_ids,
                sampling=_with_next_seed(self.request.sampling, index),
            )
            for prompt_ids in (self.request.prompt_ids, *self.more_prompts)
            for index in range(self.num_choices)
        ]


@dataclass(frozen=True, slots=True)
class ConversationBegun:
    """Any number of generations in one context of at most `max_length` tokens."""

    model_id: str
    max_length: int
    kind: Literal["conversation_begun"] = "conversation_begun"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPlan:
    """How much one generation of a conversation may say.

    Attributes:
        tokens_per_reply: None puts the whole text into one reply.
        wanted_tokens: what the caller asked for; with a stop text, per reply.
        max_new_tokens: what the engine may generate.
        num_context: tokens of the conversation, this turn's prompt included.
        max_length: tokens that fit, by the session or by the caller's wish.
    """

    tokens_per_reply: int | None
    wanted_tokens: int
    max_new_tokens: int
    num_context: int
    max_length: int


@dataclass(frozen=True, slots=True)
class TurnBegun:
    """One generation of a conversation. `request` has a seed if it samples."""

    request: GenerationRequest
    plan: TurnPlan
    kind: Literal["turn_begun"] = "turn_begun"


@dataclass(slots=True)  # a frozen one takes three times as long to make, and a token makes one
class Produced:
    """New tokens of one choice and their text, as in `GenerationEvent`. Not to change."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    choice: int = 0
    kind: Literal["produced"] = "produced"


@dataclass(frozen=True, slots=True)
class Timed:
    """Where the time of an answer went, of the run that made its last tokens."""

    timings: Timings
    kind: Literal["timed"] = "timed"


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """`context_ids` are all tokens that the turn has added to the conversation."""

    context_ids: tuple[int, ...]
    kind: Literal["turn_ended"] = "turn_ended"


@dataclass(frozen=True, slots=True)
class Failed:
    """The end, with what the caller is told."""

    reply: ErrorReply
    kind: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True)
class Closed:
    """The end, with nothing more to say."""

    kind: Literal["closed"] = "closed"


Entry = AnswerBegun | ConversationBegun | TurnBegun | Produced | Timed | TurnEnded | Failed | Closed

_ENDS: Final = (Failed, Closed)
_REASONS: Final = {
    reason: b',"finish_reason":"%b"' % reason.value.encode() for reason in FinishReason
}
_ENTRY: Final[TypeAdapter[Entry]] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def is_end(entry: Entry) -> bool:
    """Tell whether nothing comes after this entry."""
    return isinstance(entry, _ENDS)


def encode_entry(entry: Entry) -> bytes:
    """Return the entry as a store keeps it, in bytes that hold no more memory than they show.

    orjson's own hold a buffer of 4 KiB, and a store in memory has one of them per token.
    """
    if isinstance(entry, Produced) and not entry.logprobs and not entry.choice:
        return _encode_produced(entry)
    return memoryview(orjson.dumps(entry, default=_as_dict)).tobytes()


def decode_entry(data: bytes) -> Entry:
    """Return what `encode_entry` was given.

    Raises:
        JournalUnreadableError: it was something else, perhaps of another version.
    """
    try:
        return _ENTRY.validate_json(data)
    except (ValidationError, SwarmError) as error:
        raise JournalUnreadableError from error


def _encode_produced(entry: Produced) -> bytes:
    """The one that there is of every token, in a third of the time; defaults are left out."""
    reason = b"" if entry.finish_reason is None else _REASONS[entry.finish_reason]
    return b'{"kind":"produced","token_ids":%b,"text":%b%b}' % (
        orjson.dumps(entry.token_ids),
        orjson.dumps(entry.text),
        reason,
    )


def _with_next_seed(sampling: SamplingParameters, index: int) -> SamplingParameters:
    if sampling.seed is None or index == 0:
        return sampling
    seed = sampling.seed + index
    return replace(sampling, seed=seed if seed < 2**64 else seed - 2**64)


def _as_dict(value: Any) -> dict[str, Any]:
    """Mappings that are no dicts, such as the read-only ones of errors."""
    return dict(value)
