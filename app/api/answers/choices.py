"""The one place where the text of an answer's choice becomes its parts, for all dialects."""

from dataclasses import dataclass, field

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
    """

    def __init__(self, begun: AnswerBegun) -> None:
        self._parser = output_parser(begun)
        self.is_plain = self._parser is None
        self.num_tokens = 0
        self.finish_reason: FinishReason | None = None
        self.num_tool_calls = 0

    def read(self, event: GenerationEvent | Produced) -> list[OutputPart]:
        """Return the parts that an event adds."""
        self.note(event)
        if self._parser is None:
            return [TextPart(event.text)] if event.text else []
        parts = list(self._parser.push(event.text))
        if event.finish_reason is not None:
            parts += self._parser.finish()
        indexes = [part.index for part in parts if isinstance(part, ToolCallPart)]
        self.num_tool_calls = max([self.num_tool_calls, *(index + 1 for index in indexes)])
        return parts

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
class WholeChoice:
    """One choice with all of its parts."""

    reader: ChoiceReader
    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def add(self, event: GenerationEvent | Produced) -> None:
        """Take the next event."""
        self.logprobs += event.logprobs
        for part in self.reader.read(event):
            match part:
                case TextPart():
                    self.text += part.text
                case ReasoningPart():
                    self.reasoning += part.text
                case ToolCallPart():
                    self._add_call(part)

    def _add_call(self, part: ToolCallPart) -> None:
        while len(self.tool_calls) <= part.index:
            self.tool_calls.append(ToolCall())
        call = self.tool_calls[part.index]
        call.id = call.id or part.id
        call.name = call.name or part.name
        call.arguments += part.arguments_delta
