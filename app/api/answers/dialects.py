"""The surfaces whose answers are kept in journals, and how each writes them down."""

from collections.abc import Mapping
from typing import Final

from app.api.answers.writer import AnswerDialect
from app.api.anthropic.frames import MessageWriter, whole_message
from app.api.openai.chat_frames import ChatWriter, whole_chat
from app.api.openai.text_frames import TextWriter, whole_text
from app.api.responses.frames import ResponseWriter
from app.api.responses.items import whole_response
from app.observability.metrics import Surface

ANSWER_DIALECTS: Final[Mapping[Surface, AnswerDialect]] = {
    Surface.CHAT: AnswerDialect(ChatWriter, whole_chat),
    Surface.COMPLETIONS: AnswerDialect(TextWriter, whole_text),
    Surface.RESPONSES: AnswerDialect(ResponseWriter, whole_response),
    Surface.MESSAGES: AnswerDialect(MessageWriter, whole_message),
}
