"""Answers of `POST /v1/completions` as bytes. Pure. Parts look like the whole."""

from collections.abc import Sequence

import orjson

from app.api.answers.choices import WholeChoice
from app.api.answers.writer import TokenBytes
from app.api.openai.frames import (
    MARK,
    FrameWriter,
    Json,
    answer_facts,
    finish_reason,
    frame_around,
    usage_json,
)
from app.api.openai.logprobs import TextLogprobs
from app.journals.entries import AnswerBegun, Produced
from app.observability.time_spent import Timings


class TextWriter(FrameWriter):
    """`AnswerWriter` of a completion."""

    def __init__(self, begun: AnswerBegun, token_bytes: TokenBytes) -> None:
        super().__init__(begun, _facts(begun))
        self._logprobs = [TextLogprobs(token_bytes) for _ in self.readers]
        self._around = [
            frame_around(self.frame(_choice(index, MARK))) for index in range(len(self.readers))
        ]

    def begin(self) -> bytes:
        """Return nothing: there is no role to tell."""
        return b""

    def write(self, entry: Produced) -> bytes:
        """Return the frame of some new tokens."""
        self.readers[entry.choice].note(entry)
        if entry.logprobs:
            logprobs = self._logprobs[entry.choice].write(entry.logprobs)
            return self.frame(_choice(entry.choice, entry.text, logprobs=logprobs))
        if not entry.text:
            return b""
        head, tail = self._around[entry.choice]
        return head + orjson.dumps(entry.text) + tail

    def last_frame(self, index: int, reason: str) -> bytes:
        """Return the frame that says why a choice has ended."""
        return self.frame(_choice(index, "", reason=reason))


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
