"""The dialogue of `WS /api/v2/generate` without a socket: texts in, messages and replies out.

Source: PETALS_PROTOCOL §10.2, §10.3. Knows no engine, no clock and no sockets.

    caller                                    gateway
    open_inference_session  ───────────────▶
                            ◀───────────────  {"ok": true}
    generate                ───────────────▶
                            ◀───────────────  {"ok": true, "outputs", "stop", "token_count"} …
                                              … until "stop" is true; then generate again
    anything wrong          ◀───────────────  {"ok": false, "traceback"}, and the end
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson

from app.api.bodies import parse_json_object, validate
from app.api.petals_fields import GenerateMessage, OpenMessage
from app.errors import BadRequestError, MessageTooLargeError
from app.inference.requests import FinishReason, GenerationEvent
from swarm_client.errors import MaxLengthExceededError

MAX_MESSAGE_BYTES: Final = 256 * 1024
OK_REPLY: Final = '{"ok":true}'


def read_opening(text: str) -> OpenMessage:
    """Return the first message of a connection.

    Raises:
        BadRequestError: it is not an `open_inference_session` that fits.
        MessageTooLargeError: it is over `MAX_MESSAGE_BYTES`.
    """
    return validate(OpenMessage, _read(text, "open_inference_session"))


def read_generate(text: str) -> GenerateMessage:
    """Return a further message. Raises as `read_opening` does."""
    return validate(GenerateMessage, _read(text, "generate"))


def _read(text: str, expected: str) -> dict[str, Any]:
    if len(text) > MAX_MESSAGE_BYTES or len(text.encode()) > MAX_MESSAGE_BYTES:
        raise MessageTooLargeError(MAX_MESSAGE_BYTES)
    values = parse_json_object(text)
    if values.get("type") != expected:
        came = values.get("type")
        shown = repr(came) if came in ("open_inference_session", "generate") else "another type"
        raise BadRequestError(f"type: expected {expected!r} here, got {shown}", "type")
    return values


class ReplySplitter:
    """Cuts one generation into replies.

    With a stop text every reply has `max_new_tokens` tokens (or more, while a character or a
    possible stop text is incomplete); without one there is a single reply.

    Attributes:
        max_new_tokens: tokens the engine may generate for this message.
    """

    def __init__(self, message: GenerateMessage, *, num_context: int, max_length: int) -> None:
        """Plan the replies to `message`.

        Args:
            num_context: tokens of the conversation, this message's prompt included.
            max_length: tokens the session may hold.

        Raises:
            MaxLengthExceededError: there is no room for a single new token.
        """
        limit = min(message.max_length or max_length, max_length)
        room = limit - num_context
        if room < 1:
            raise MaxLengthExceededError(num_context, 1, limit)
        self._has_stop = bool(message.stop)
        self._wanted = message.max_new_tokens or (message.max_length or limit) - num_context
        self.max_new_tokens = room if self._has_stop else min(self._wanted, room)
        self._num_context = num_context
        self._limit = limit
        self._texts: list[str] = []
        self._num_waiting = 0
        self._num_generated = 0

    def add(self, event: GenerationEvent) -> Iterator[str]:
        """Yield the replies that are complete now.

        Raises:
            MaxLengthExceededError: the session is full, and no stop text was found. Everything
                generated has been yielded before.
        """
        self._texts.append(event.text)
        self._num_waiting += event.num_tokens
        self._num_generated += event.num_tokens
        if event.finish_reason is None:
            if self._has_stop and self._num_waiting >= self._wanted and event.text:
                yield self._reply(stop=False)
        elif event.finish_reason is FinishReason.LENGTH and self._is_unfinished():
            if self._num_waiting:
                yield self._reply(stop=False)
            raise MaxLengthExceededError(self._num_context + self._num_generated, 1, self._limit)
        else:
            yield self._reply(stop=True)

    def _is_unfinished(self) -> bool:
        """Tell whether the caller wanted more than the session could hold."""
        return self._has_stop or self._num_generated < self._wanted

    def _reply(self, *, stop: bool) -> str:
        reply = {
            "ok": True,
            "outputs": "".join(self._texts),
            "stop": stop,
            "token_count": self._num_waiting,
        }
        self._texts.clear()
        self._num_waiting = 0
        return orjson.dumps(reply).decode()
