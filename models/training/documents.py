"""What the model is trained on: documents, and the text they become.

The markers and the chat template stand side by side here, because they must agree: a conversation
rendered by the template is the text the model has seen in training.
"""

from dataclasses import dataclass
from typing import Literal

PADDING, BEGIN, END = "<|pad|>", "<|bos|>", "<|end|>"
SPECIAL_TOKENS = (PADDING, BEGIN, END, "<|system|>", "<|user|>", "<|assistant|>")
PADDING_ID, BEGIN_ID, END_ID = 0, 1, 2  # places in SPECIAL_TOKENS

CHAT_TEMPLATE = (
    "<|bos|>{% for m in messages %}"
    "<|{{ m['role'] if m['role'] in ['system', 'user', 'assistant'] else 'user' }}|>"
    "{{ m['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a caller says and what the model should answer."""

    question: str
    answer: str


Conversation = tuple[Message, ...]
Document = Conversation | str
"""A conversation, or plain text for completion."""


def render(document: Document) -> str:
    """The training text of a document: of a conversation, what the chat template makes of it."""
    if isinstance(document, str):
        return f"{BEGIN}{document}{END}"
    turns = (f"<|{message.role}|>{message.content}{END}" for message in document)
    return BEGIN + "".join(turns)
