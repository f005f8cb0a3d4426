"""From chat messages to a prompt, by the template that comes with the model."""

from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

from jinja2.exceptions import TemplateError as JinjaError

from app.inference.errors import TemplateError
from app.inference.requests import ChatMessage

Role = Literal["system", "user", "assistant"]

MAX_MESSAGES: Final = 1024
MAX_CHARACTERS: Final = 1024 * 1024
_MAX_REASON_CHARACTERS: Final = 200


def render_chat(tokenizer: Any, messages: Sequence[ChatMessage]) -> str:
    """Return the prompt up to where the model's answer begins, special tokens as text.

    The template runs in transformers' jinja sandbox. It blocks for milliseconds.

    Args:
        tokenizer: of transformers, which has no types.

    Raises:
        TemplateError: no messages, too many, too long, an unknown role, a model without a chat
            template, or a template that refuses the messages.
    """
    _check_messages(messages)
    if not tokenizer.chat_template:
        raise TemplateError("this model has no chat template; send it a plain prompt instead")
    chat = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    except (JinjaError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        reason = " ".join(str(error).split())[:_MAX_REASON_CHARACTERS]
        raise TemplateError(
            f"the chat template of this model refuses the messages: {reason}"
        ) from error
    if len(text) > 2 * MAX_CHARACTERS:
        raise TemplateError("the chat template of this model makes too long a prompt of this")
    return str(text)


def _check_messages(messages: Sequence[ChatMessage]) -> None:
    if not messages:
        raise TemplateError("there must be at least one message")
    if len(messages) > MAX_MESSAGES:
        raise TemplateError(f"there are {len(messages)} messages, more than {MAX_MESSAGES}")
    roles = get_args(Role)
    for index, message in enumerate(messages):
        if message.role not in roles:
            raise TemplateError(
                f"message {index} has the unknown role {message.role!r:.40}; "
                f"known roles: {', '.join(roles)}"
            )
    num_characters = sum(len(message.content) for message in messages)
    if num_characters > MAX_CHARACTERS:
        raise TemplateError(
            f"the messages have {num_characters} characters, more than {MAX_CHARACTERS}"
        )
