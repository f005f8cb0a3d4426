"""Answers of `POST /v1/completions` as bytes. Pure. Parts look like the whole."""

from collections.abc import Sequence

import orjson

from app.api.answers.choices import WholeChoice
from app.api.answers.writer import TokenBytes
from app.api.openai.frames import (
    DONE_FRAME,
    MARK,
    FrameStream,
    Json,
    answer_facts,
    error_frame,
    finish_reason,
    frame_around,
    usage_json,
)
from app.api.openai.logprobs import TextLogprobs
from app.errors import ErrorReply
from app.journals.entries import AnswerBegun, Produced
from app.observability.time_spent import Timings


class TextWriter:
    """`AnswerWriter` of a completion: frames without names, then `[DONE]`."""

    def __init__(self, begun: AnswerBegun, token_bytes: TokenBytes) -> None:
        self._stream = FrameStream(begun, _facts(begun))
        self._readers = self._stream.readers
        self._logprobs = [TextLogprobs(token_bytes) for _ in self._readers]
        self._around = [
            frame_around(self._stream.frame(_choice(index, MARK)))
            for index in range(len(self._readers))
        ]

    def begin(self) -> bytes:
        """Return nothing: there is no role to tell."""
        return b""

    def write(self, entry: Produced) -> bytes:
        """Return the frame of some new tokens."""
        self._readers[entry.choice].note(entry)
        if entry.logprobs:
            logprobs = self._logprobs[entry.choice].write(entry.logprobs)
            return self._stream.frame(_choice(entry.choice, entry.text, logprobs=logprobs))
        if not entry.text:
            return b""
        head, tail = self._around[entry.choice]
        return head + orjson.dumps(entry.text) + tail

    def finish(self, timings: Timings | None) -> bytes:
        """Return why each choice has ended, and the usage if it is wanted; it has no choices."""
        frames = [
            self._stream.frame(_choice(index, "", reason=finish_reason(reader)))
            for index, reader in enumerate(self._readers)
        ]
        return b"".join(frames) + self._stream.end(timings)

    def fail(self, reply: ErrorReply) -> bytes:
        """Return the error and the end."""
        return error_frame(reply) + DONE_FRAME

    def error(self, reply: ErrorReply) -> bytes:
        """Return the error alone."""
        return error_frame(reply)


def whole_text(
    begun: AnswerBegun,
    choices: Sequence[WholeChoice],
    token_bytes: TokenBytes,
    timings: Timings | None,
) -> bytes:
    """Return the answer as one JSON body."""
    return orjson.dumps(
        {
            **_facts(begun),
            "choices": [
                _choice(
                    index,
                    choice.text,
                    logprobs=TextLogprobs(token_bytes).write(choice.logprobs),
                    reason=finish_reason(choice.reader),
                )
                for index, choice in enumerate(choices)
            ],
            "usage": usage_json(begun, [choice.reader for choice in choices], timings),
        }
    )


def _facts(begun: AnswerBegun) -> Json:
    return {**answer_facts("cmpl-", begun), "object": "text_completion"}


def _choice(
    index: int, text: str, *, logprobs: Json | None = None, reason: str | None = None
) -> Json:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
