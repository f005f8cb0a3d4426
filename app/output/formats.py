"""How a model's chat template marks reasoning and calls of tools. Plain data; kept in journals."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

ToolStyle: TypeAlias = Literal["hermes", "llama", "mistral"]


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What to look for in the text of one answer.

    Attributes:
        tool_style: how calls of tools are written; None if the text has none. Hermes' and Qwen's
            `<tool_call>{…}</tool_call>`, the bare JSON of Llama 3, Mistral's `[TOOL_CALLS]`.
        tool_names: of the tools that may be called.
        is_parallel: whether there may be more than one call; further ones are left out.
        has_reasoning: the text may begin with `<think>…</think>`.
        starts_in_reasoning: the prompt has said `<think>` already.
    """

    tool_style: ToolStyle | None = None
    tool_names: tuple[str, ...] = ()
    is_parallel: bool = True
    has_reasoning: bool = False
    starts_in_reasoning: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to look for."""
        return self.tool_style is None and not self.has_reasoning


def style_of_template(template: str) -> ToolStyle | None:
    """Return how the models of a chat template write calls; None if it knows no tools.

    Source: the templates that Qwen 2.5 and 3, Hermes 2 Pro, Llama 3.1 to 3.3 and Mistral publish.
    """
    if "[TOOL_CALLS]" in template:
        return "mistral"
    if "<tool_call>" in template and "<function=" not in template:
        return "hermes"
    if "<|python_tag|>" in template or "ipython" in template:
        return "llama"
    return None


def marks_reasoning(template: str) -> bool:
    """Return whether models of a chat template write what they think between `<think>` marks."""
    return "</think>" in template
