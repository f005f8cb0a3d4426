"""How a model's chat template marks reasoning and calls of tools. Plain data; kept in journals."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

JsonCallStyle: TypeAlias = Literal["hermes", "llama", "mistral"]
"""Styles in which a call is a JSON object."""

ToolStyle: TypeAlias = JsonCallStyle | Literal["qwen_coder"]


@dataclass(frozen=True, slots=True)
class TextParameter:
    """A parameter of a tool whose value is a text, or null if that `is_nullable`."""

    tool: str
    name: str
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What to look for in the text of one answer.

    Attributes:
        tool_style: how calls of tools are written; None if the text has none. Hermes' and Qwen's
            `<tool_call>{…}</tool_call>`, the bare JSON of Llama 3, Mistral's `[TOOL_CALLS]`, the
            tags of Qwen3-Coder.
        tool_names: of the tools that may be called.
        text_parameters: of those, for styles that do not tell a text from a number.
        is_parallel: whether there may be more than one call; further ones are left out.
        has_reasoning: the text may begin with `<think>…</think>`.
        starts_in_reasoning: the prompt has said `<think>` already.
    """

    tool_style: ToolStyle | None = None
    tool_names: tuple[str, ...] = ()
    is_parallel: bool = True
    has_reasoning: bool = False
    starts_in_reasoning: bool = False
    text_parameters: tuple[TextParameter, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to look for."""
        return self.tool_style is None and not self.has_reasoning


def style_of_template(template: str) -> ToolStyle | None:
    """Return how the models of a chat template write calls; None if it knows no tools.

    Source: the templates that Qwen 2.5, 3 and 3-Coder, Hermes 2 Pro, Llama 3.1 to 3.3 and Mistral
    publish.
    """
    if "[TOOL_CALLS]" in template:
        return "mistral"
    if "<tool_call>" in template and "<arg_key>" not in template:
        return "qwen_coder" if "<function=" in template else "hermes"
    if "<|python_tag|>" in template or "ipython" in template:
        return "llama"
    return None


def marks_reasoning(template: str) -> bool:
    """Return whether models of a chat template write what they think between `<think>` marks."""
    return "</think>" in template


def text_parameters(tool: str, schema: Mapping[str, Any]) -> Iterable[TextParameter]:
    """Yield the parameters of a tool that are texts by the schema of its arguments."""
    properties = schema.get("properties")
    for name, value in properties.items() if isinstance(properties, Mapping) else ():
        types = _types(value)
        if "string" in types and types <= {"string", "null"}:
            yield TextParameter(tool, name, is_nullable="null" in types)


def _types(schema: object) -> set[object]:
    """Return the names of the types that a schema names, at its top; empty if it names none."""
    if not isinstance(schema, Mapping):
        return set()
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(alternatives, list):
        found = [_types(each) for each in alternatives]
        return set().union(*found) if all(found) else set()
    named = schema.get("type")
    return {str(each) for each in named} if isinstance(named, list) else {named} - {None}
