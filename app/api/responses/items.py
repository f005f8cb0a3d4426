"""Responses and their items as JSON. Pure."""

from collections.abc import Sequence

import orjson

from app.api.answers.choices import ChoiceReader, Said, ToolCall, WholeChoice
from app.api.answers.writer import TokenBytes
from app.api.openai.logprobs import chat_logprobs
from app.api.responses.fields import ResponseDetails
from app.errors import ErrorReply
from app.inference.requests import FinishReason, TokenLogprob
from app.journals.entries import AnswerBegun
from app.observability.time_spent import Timings

Json = dict[str, object]

CANCELLED: str = "cancelled"
"""Code of the error that ends a cancelled response's journal."""


def details_of(begun: AnswerBegun) -> ResponseDetails:
    """Return what the request said."""
    return ResponseDetails.model_validate_json(begun.details)


def status_of(reader: ChoiceReader, failure: ErrorReply | None) -> str:
    """Return how far a response is."""
    if failure is not None:
        return "cancelled" if failure.code == CANCELLED else "failed"
    if reader.finish_reason is None:
        return "in_progress"
    return "completed" if reader.finish_reason is FinishReason.STOP else "incomplete"


def response_json(
    begun: AnswerBegun,
    reader: ChoiceReader,
    output: Sequence[Json],
    failure: ErrorReply | None = None,
    *,
    timings: Timings | None = None,
) -> Json:
    """Return a response as it is now."""
    details, status = details_of(begun), status_of(reader, failure)
    sampling = begun.request.sampling
    has_failed = failure is not None and status == "failed"
    return {
        "id": "resp_" + details.id,
        "object": "response",
        "created_at": begun.created_at,
        "status": status,
        "background": details.is_background,
        "error": {"code": "server_error", "message": failure.message}
        if failure is not None and has_failed
        else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": details.instructions,
        "max_output_tokens": details.max_output_tokens,
        "metadata": details.metadata,
        "model": begun.model_id,
        "output": list(output),
        **details.form.model_dump(),
        "previous_response_id": details.previous_response_id,
        "store": details.is_stored,
        "temperature": sampling.temperature if sampling.do_sample else 0.0,
        "top_p": sampling.top_p,
        "truncation": "disabled",
        "usage": None if status == "in_progress" else _usage(begun, reader, timings),
    }


def message_item(item_id: str, text: str, status: str, logprobs: Sequence[Json] = ()) -> Json:
    """Return a message of one text; none while it has no text."""
    part: Json = {**text_part(text), "logprobs": list(logprobs)}
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [part] if text else [],
    }


def text_part(text: str) -> Json:
    """Return a part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def reasoning_item(item_id: str, text: str, status: str) -> Json:
    """Return what the model thought."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {
        "id": item_id,
        "type": "reasoning",
        "status": status,
        "summary": [],
        "content": content,
    }


def call_item(item_id: str, call_id: str, name: str, arguments: str, status: str) -> Json:
    """Return a call of a tool."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def item_id(begun: AnswerBegun, kind: str, index: int) -> str:
    """Return the id of the item at an index."""
    return f"{kind}_{details_of(begun).id}_{index}"


def logprob_items(logprobs: Sequence[TokenLogprob], token_bytes: TokenBytes) -> list[Json]:
    """Return log-probabilities; empty for none."""
    described = chat_logprobs(logprobs, token_bytes)
    content = described["content"] if described is not None else []
    assert isinstance(content, list)
    return content


def output_of(
    begun: AnswerBegun, choice: WholeChoice, token_bytes: TokenBytes, *, has_failed: bool = False
) -> list[Json]:
    """Return the items there are so far; none before the first token.

    All but the last are complete. The first message has the log-probabilities of them all.
    """
    if choice.reader.num_tokens == 0:
        return []
    last_status = "incomplete" if has_failed else status_of(choice.reader, None)
    logprobs = logprob_items(choice.logprobs, token_bytes)
    parts = choice.parts or [Said("text", "")]
    items: list[Json] = []
    for index, part in enumerate(parts):
        status = last_status if part is parts[-1] else "completed"
        if isinstance(part, ToolCall):
            place = item_id(begun, "fc", index)
            items.append(call_item(place, part.id, part.name, part.arguments, status))
        elif part.kind == "reasoning":
            items.append(reasoning_item(item_id(begun, "rs", index), part.text, status))
        else:
            place = item_id(begun, "msg", index)
            items.append(message_item(place, part.text, status, logprobs))
            logprobs = []
    return items


def whole_response(
    begun: AnswerBegun,
    choices: Sequence[WholeChoice],
    token_bytes: TokenBytes,
    timings: Timings | None,
) -> bytes:
    """Return the response as one JSON body, finished or not."""
    (choice,) = choices
    output = output_of(begun, choice, token_bytes)
    return orjson.dumps(response_json(begun, choice.reader, output, timings=timings))


def _usage(begun: AnswerBegun, reader: ChoiceReader, timings: Timings | None) -> Json:
    """No tokens are cached, as far as callers are concerned: nothing is charged differently."""
    return {
        "input_tokens": begun.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": reader.num_tokens,
        "output_tokens_details": {"reasoning_tokens": reader.num_reasoning_tokens},
        "total_tokens": begun.num_prompt_tokens + reader.num_tokens,
        **({} if timings is None else {"timings": timings}),
    }
