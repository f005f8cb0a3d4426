"""The one place where the text of an answer's choice becomes its parts, for all dialects."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from app.inference.requests import FinishReason, GenerationEvent, TokenLogprob
from app.journals.entries import AnswerBegun, Produced
from app.output.parser import AnswerParser
from app.output.parts import OutputParser, OutputPart, ReasoningPart, TextPart, ToolCallPart


def output_parser(begun: AnswerBegun) -> OutputParser | None:
    """Return a parser for one choice of the answer; None where all of it is plain text."""
    if begun.output is None or begun.output.is_plain:
        return None
    return AnswerParser(begun.output, begun.request.request_id)


class ChoiceReader:
    """Reads one choice, event by event, from its first token on.

    Attributes:
        is_plain: every text is a `TextPart`; who has many to read need not ask.
        num_tokens: so far.
        finish_reason: set by the last event.
        num_tool_calls: begun so far.
        num_reasoning_tokens: before the answer began, marks included; none if nothing was thought.
    """

    def __init__(self, begun: AnswerBegun) -> None:
        self._parser = output_parser(begun)
        self.is_plain = self._parser is None
        self.num_tokens = 0
        self.finish_reason: FinishReason | None = None
        self.num_tool_calls = 0
        self.num_reasoning_tokens = 0
        self._is_answering = False

    def read(self, event: GenerationEvent | Produced) -> list[OutputPart]:
        """Return the parts that an event adds."""
        self.note(event)
        if self._parser is None:
            return [TextPart(event.text)] if event.text else []
        parts = list(self._parser.push(event.text))
        if event.finish_reason is not None:
            parts += self._parser.finish()
        if not self._is_answering:
            self._count_reasoning(parts)
        indexes = [part.index for part in parts if isinstance(part, ToolCallPart)]
        self.num_tool_calls = max([self.num_tool_calls, *(index + 1 for index in indexes)])
        return parts

    def _count_reasoning(self, parts: Sequence[OutputPart]) -> None:
        if any(not isinstance(part, ReasoningPart) for part in parts):
            self._is_answering = True
        elif parts or self.num_reasoning_tokens:
            self.num_reasoning_tokens = self.num_tokens

    def note(self, event: GenerationEvent | Produced) -> None:
        """Count an event whose text needs no reading."""
        self.num_tokens += len(event.token_ids)
        if event.finish_reason is not None:
            self.finish_reason = event.finish_reason


@dataclass(slots=True)
class ToolCall:
    """One call of a tool; `arguments` is JSON text as the model wrote it."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Said:
    """What is said to the user, or thought before, in one piece."""

    kind: Literal["text", "reasoning"]
    text: str


@dataclass(slots=True)
class WholeChoice:
    """One choice with all of its parts.

    Attributes:
        parts: in their order; neighbours are of different kinds, or calls.
    """

    reader: ChoiceReader
    parts: list[Said | ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All that is said to the user."""
        return self._all("text")

    @property
    def reasoning(self) -> str:
        """All that was thought."""
        return self._all("reasoning")

    @property
    def tool_calls(self) -> list[ToolCall]:
        """All calls of tools."""
        return [part for part in self.parts if isinstance(part, ToolCall)]

    def add(self, event: GenerationEvent | Produced) -> None:
        """Take the next event."""
        self.logprobs += event.logprobs
        for part in self.reader.read(event):
            match part:
                case TextPart():
                    self._say("text", part.text)
                case ReasoningPart():
                    self._say("reasoning", part.text)
                case ToolCallPart():
                    self._add_call(part)

    def _all(self, kind: Literal["text", "reasoning"]) -> str:
        said = [part for part in self.parts if isinstance(part, Said)]
        return "".join([part.text for part in said if part.kind == kind])

    def _say(self, kind: Literal["text", "reasoning"], text: str) -> None:
        last = self.parts[-1] if self.parts else None
        if isinstance(last, Said) and last.kind == kind:
            last.text += text
        else:
            self.parts.append(Said(kind, text))

    def _add_call(self, part: ToolCallPart) -> None:
        """The parts of one call follow each other; the first one has its name."""
        if part.id:
            self.parts.append(ToolCall(part.id, part.name))
        call = self.parts[-1]
        assert isinstance(call, ToolCall)
        call.arguments += part.arguments_delta
