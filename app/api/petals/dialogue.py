"""The dialogue of `WS /api/v2/generate` without a socket: texts in, messages and replies out.

Source: PETALS_PROTOCOL §10.2, §10.3. Knows no engine, no clock and no sockets.

    caller                                    gateway
    open_inference_session  ───────────────▶
                            ◀───────────────  {"ok": true}
    generate                ───────────────▶
                            ◀───────────────  {"ok": true, "outputs", "stop", "token_count"} …
                                              … until "stop" is true; then generate again
    anything wrong          ◀───────────────  {"ok": false, "traceback"}, and the end

Ours beyond Petals': replies have `resume`, which in an `open_inference_session` on a new connection
asks for what comes behind them; and while the swarm is being repaired there are replies without
text that have an `event`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from app.api.bodies import parse_json_object, validate
from app.api.petals.fields import GenerateMessage, OpenMessage
from app.errors import BadRequestError, MessageTooLargeError
from app.inference.requests import FinishReason
from app.journals.entries import ConversationBegun, Entry, Produced, TurnBegun, TurnPlan
from app.journals.journal import Reading
from app.journals.notices import Notice
from app.validation import kind_of
from swarm_client.errors import MaxLengthExceededError

MAX_MESSAGE_BYTES: Final = 256 * 1024


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
        shown = f"{came!r:.40}" if isinstance(came, str) else kind_of(came)
        raise BadRequestError(f"type: expected {expected!r} here, got {shown}", "type")
    return values


def plan_turn(message: GenerateMessage, *, num_context: int, max_length: int) -> TurnPlan:
    """Return how much may be said.

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
    wanted = message.max_new_tokens or (message.max_length or limit) - num_context
    return TurnPlan(
        tokens_per_reply=wanted if message.stop else None,
        wanted_tokens=wanted,
        max_new_tokens=room if message.stop else min(wanted, room),
        num_context=num_context,
        max_length=limit,
    )


def check_end(plan: TurnPlan, reason: FinishReason, num_generated: int) -> None:
    """Check that a turn ended as the caller wanted.

    Raises:
        MaxLengthExceededError: the session is full before that.
    """
    is_short = plan.tokens_per_reply is not None or num_generated < plan.wanted_tokens
    if reason is FinishReason.LENGTH and is_short:
        raise MaxLengthExceededError(plan.num_context + num_generated, 1, plan.max_length)


class ConversationReplies:
    """Turns the journal of a conversation into replies, which are JSON in UTF-8.

    With a stop text every reply has `tokens_per_reply` tokens (or more, while a character or a
    possible stop text is incomplete); without one there is a single reply.

    Args:
        seen: number of the last entry the caller has; -1 if none. Up to there nothing is said.
        can_resume: whether replies tell how to go on after a broken connection.
    """

    def __init__(self, journal_id: str, *, seen: int = -1, can_resume: bool = True) -> None:
        self._mark = f"{journal_id}-" if can_resume else None
        self._seen = seen
        self._tokens_per_reply: int | None = None
        self._texts: list[str] = []
        self._num_waiting = 0

    def replies(self, reading: Reading) -> Iterator[bytes]:
        """Yield the replies of a reading; readings come without gaps, the first one from 0."""
        for notice in reading.notices:
            yield _notice_reply(notice)
        for number, entry in enumerate(reading.entries, reading.start):
            match entry:
                case Produced():
                    if number > self._seen:
                        yield from self._add(number, entry)
                case TurnBegun():
                    self._tokens_per_reply = entry.plan.tokens_per_reply
                case ConversationBegun():
                    yield self._opening(reading.entries)

    def rest(self) -> Iterator[bytes]:
        """Yield what an error in the middle has kept back."""
        if self._num_waiting:
            yield self._reply(self._last_number, stop=False)

    def _opening(self, entries: Sequence[Entry]) -> bytes:
        """Tell a caller who resumes how many of its `generate` messages have arrived."""
        reply: dict[str, object] = {"ok": True}
        if self._mark is not None:
            reply["resume"] = f"{self._mark}{max(0, self._seen)}"
        if self._seen >= 0:
            reply["turns"] = sum(isinstance(entry, TurnBegun) for entry in entries)
        return orjson.dumps(reply)

    def _add(self, number: int, produced: Produced) -> Iterator[bytes]:
        self._last_number = number
        self._texts.append(produced.text)
        self._num_waiting += len(produced.token_ids)
        if produced.finish_reason is not None:
            yield self._reply(number, stop=True)
        elif (
            self._tokens_per_reply is not None
            and self._num_waiting >= self._tokens_per_reply
            and produced.text
        ):
            yield self._reply(number, stop=False)

    def _reply(self, number: int, *, stop: bool) -> bytes:
        reply = {
            "ok": True,
            "outputs": "".join(self._texts),
            "stop": stop,
            "token_count": self._num_waiting,
        }
        if self._mark is not None:
            reply["resume"] = f"{self._mark}{number}"
        self._texts.clear()
        self._num_waiting = 0
        return orjson.dumps(reply)


def _notice_reply(notice: Notice) -> bytes:
    """Petals' clients add nothing to the text and go on waiting."""
    reply = {
        "ok": True,
        "outputs": "",
        "stop": False,
        "token_count": 0,
        "event": notice.to_json(),
    }
    return orjson.dumps(reply)
