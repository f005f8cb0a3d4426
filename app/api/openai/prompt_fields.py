"""Fields of chats about their prompt: OpenAI's effort, and what vLLM lets callers set."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from app.api.unknown_fields import HarmlessValues
from app.errors import BadRequestError, UnsupportedFieldError
from app.inference.chat_templates import ChatStyle
from app.inference.requests import PromptWishes

_NO_EFFORT: Final = "none"
_MAX_VARIABLES: Final = 32

PROMPT_ORDERS: Final[HarmlessValues] = {
    "chat_template": (),
    "documents": ([],),
    "truncate_prompt_tokens": (),
}
"""Fields that would make another prompt and are not offered."""

EffortWord = Annotated[str, Field(min_length=1, max_length=40)]
TemplateVariables = Annotated[dict[str, Any], Field(max_length=_MAX_VARIABLES)]


class ChatPromptFields(BaseModel):
    """How the prompt is made of messages and tools."""

    chat_template_kwargs: TemplateVariables | None = None
    reasoning_effort: EffortWord | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    def prompt_wishes(self) -> PromptWishes:
        """Return them as the engine takes them.

        Raises:
            BadRequestError: the message is to be continued, and another one to be begun.
            UnsupportedFieldError: neither is to be done.
        """
        continues = self.continue_final_message is True
        if continues and self.add_generation_prompt:
            raise BadRequestError(
                "add_generation_prompt: expected false beside continue_final_message",
                "add_generation_prompt",
            )
        if self.add_generation_prompt is False and not continues:
            raise UnsupportedFieldError(
                "add_generation_prompt: false needs continue_final_message",
                "add_generation_prompt",
            )
        variables = self.chat_template_kwargs or {}
        return effort_wishes(self.reasoning_effort, PromptWishes(variables, continues))

    def unheeded_wishes(self, style: ChatStyle) -> list[str]:
        """Return the names of fields that a model's template does not look at."""
        variables: Mapping[str, Any] = self.chat_template_kwargs or {}
        words = style.template_words
        names = [f"chat_template_kwargs.{name}" for name in variables if name not in words]
        if not heeds_effort(self.reasoning_effort, style):
            names.append("reasoning_effort")
        return names


def effort_wishes(effort: str | None, wishes: PromptWishes) -> PromptWishes:
    """Return the wishes with an effort; none at all is a wish not to think."""
    thinks = False if effort == _NO_EFFORT else None
    return PromptWishes(wishes.variables, wishes.continues, thinks, effort or "")


def heeds_effort(effort: str | None, style: ChatStyle) -> bool:
    """Return whether an effort has an effect on a model, or is none."""
    if effort == _NO_EFFORT:
        return style.heeds_thinking(is_wanted=False)
    return effort is None or style.heeds_effort
