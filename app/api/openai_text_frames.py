"""Answers of `POST /v1/completions` as bytes. Pure. Parts look like the whole."""

from collections.abc import Sequence

import orjson

from app.api.answer_writer import TokenBytes, Usage
from app.api.choices import ChoiceReader, WholeChoice
from app.api.openai_frames import (
    DONE_FRAME,
    MARK,
    Json,
    answer_facts,
    data_frame,
    error_frame,
    finish_reason,
    frame_around,
    usage_json,
)
from app.api.openai_logprobs import TextLogprobs
from app.errors import ErrorReply
from app.journals.entries import AnswerBegun, Produced


class TextWriter:
    """`AnswerWriter` of a completion: frames without names, then `[DONE]`."""

    def __init__(self, begun: AnswerBegun, token_bytes: TokenBytes) -> None:
        self._begun = begun
        self._facts = _facts(begun)
        self._usage: Json = {"usage": None} if begun.includes_usage else {}
        numbers = range(begun.total_choices)
        self._readers = [ChoiceReader(begun) for _ in numbers]
        self._logprobs = [TextLogprobs(token_bytes) for _ in numbers]
        self._around = [frame_around(self._frame(_choice(index, MARK))) for index in numbers]

    def begin(self) -> bytes:
        """Return nothing: there is no role to tell."""
        return b""

    def write(self, entry: Produced) -> bytes:
        """Return the frame of some new tokens."""
        self._readers[entry.choice].note(entry)
        if entry.logprobs:
            logprobs = self._logprobs[entry.choice].write(entry.logprobs)
            return self._frame(_choice(entry.choice, entry.text, logprobs=logprobs))
        if not entry.text:
            return b""
        head, tail = self._around[entry.choice]
        return head + orjson.dumps(entry.text) + tail

    def finish(self) -> bytes:
        """Return why each choice has ended, and the usage if it is wanted; it has no choices."""
        frames = [
            self._frame(_choice(index, "", reason=finish_reason(reader)))
            for index, reader in enumerate(self._readers)
        ]
        if self._begun.includes_usage:
            num_tokens = sum(reader.num_tokens for reader in self._readers)
            usage = usage_json(Usage(self._begun.num_prompt_tokens, num_tokens))
            frames.append(data_frame({**self._facts, "choices": [], "usage": usage}))
        return b"".join(frames) + DONE_FRAME

    def fail(self, reply: ErrorReply) -> bytes:
        """Return the error and the end."""
        return error_frame(reply) + DONE_FRAME

    def error(self, reply: ErrorReply) -> bytes:
        """Return the error alone."""
        return error_frame(reply)

    def _frame(self, choice: Json) -> bytes:
        return data_frame({**self._facts, "choices": [choice], **self._usage})


def whole_text(
    begun: AnswerBegun, choices: Sequence[WholeChoice], token_bytes: TokenBytes
) -> bytes:
    """Return the answer as one JSON body."""
    usage = Usage(begun.num_prompt_tokens, sum(choice.reader.num_tokens for choice in choices))
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
            "usage": usage_json(usage),
        }
    )


def _facts(begun: AnswerBegun) -> Json:
    return {**answer_facts("cmpl-", begun), "object": "text_completion"}


def _choice(
    index: int, text: str, *, logprobs: Json | None = None, reason: str | None = None
) -> Json:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
