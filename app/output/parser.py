"""Splits the text of one choice into reasoning, text and calls of tools. Pure."""

import hashlib
from collections.abc import Sequence

from app.output.call_splitter import CallSplitter
from app.output.formats import OutputFormat
from app.output.parts import OutputPart, TextPart, ToolCallPart
from app.output.reasoning import ReasoningSplitter
from app.output.tagged_calls import TaggedCallSplitter
from app.output.tool_calls import ToolCallSplitter


class AnswerParser:
    """`OutputParser` of a format.

    Args:
        answer_id: ids of calls are made of it, so that whoever reads the text again finds the
            same ones.
    """

    def __init__(self, output_format: OutputFormat, answer_id: str) -> None:
        self._answer_id = answer_id
        self._style = output_format.tool_style
        self._is_parallel = output_format.is_parallel
        self._reasoning: ReasoningSplitter | None = None
        self._calls: CallSplitter | None = None
        if output_format.has_reasoning:
            self._reasoning = ReasoningSplitter(has_begun=output_format.starts_in_reasoning)
        names = output_format.tool_names
        if self._style == "qwen_coder":
            texts = output_format.text_parameters
            self._calls = TaggedCallSplitter(names, texts, self._call_id)
        elif self._style is not None:
            self._calls = ToolCallSplitter(self._style, names, self._call_id)

    def push(self, text: str) -> Sequence[OutputPart]:
        """Take the next text; return what is certain."""
        parts: list[OutputPart] = []
        if self._reasoning is not None:
            parts, text = self._reasoning.push(text)
        return [*parts, *self._split(text)]

    def finish(self) -> Sequence[OutputPart]:
        """Return what was held back: no more text will come."""
        parts, text = ([], "") if self._reasoning is None else self._reasoning.finish()
        parts += self._split(text)
        return parts if self._calls is None else [*parts, *self._calls.finish()]

    def _split(self, text: str) -> list[OutputPart]:
        if not text:
            return []
        return [TextPart(text)] if self._calls is None else self._wanted(self._calls.push(text))

    def _wanted(self, parts: list[OutputPart]) -> list[OutputPart]:
        if self._is_parallel:
            return parts
        return [part for part in parts if not isinstance(part, ToolCallPart) or part.index == 0]

    def _call_id(self, index: int) -> str:
        """Mistral's template takes nothing but nine letters and digits."""
        digest = hashlib.sha256(f"{self._answer_id}/{index}".encode()).hexdigest()
        return digest[:9] if self._style == "mistral" else "call_" + digest[:24]
