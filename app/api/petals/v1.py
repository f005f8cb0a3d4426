"""`POST /api/v1/generate`: one answer per request, in the Petals dialect.

Arguments come in the query string, a form or a JSON object. Source: PETALS_PROTOCOL §10.1.
"""

from contextlib import aclosing

import orjson
import structlog
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.account import Account
from app.admission import CallerLeftError
from app.api.bodies import parse_json_object, read_body, validate
from app.api.generation import (
    SwarmNews,
    accounted_events,
    context_size,
    reserved_conversation,
)
from app.api.petals.fields import GenerateForm
from app.api.replies import send_error, send_json
from app.callers import Caller
from app.context import AppContext, caller_of, context_of, request_id_of
from app.errors import BadRequestError
from app.inference.requests import GenerationRequest, RequestId
from app.observability.metrics import Surface
from app.presence import run_beside, wait_for_disconnect
from swarm_client.errors import MaxLengthExceededError
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)

_MAX_FIELDS = 64


class PetalsV1:
    """The ASGI endpoint."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        context, caller = context_of(scope), caller_of(scope)
        try:
            async with context.admission.admit(Surface.PETALS_V1) as account:
                form = validate(GenerateForm, await _read_fields(scope, receive))
                answer = _generate(context, caller, account, request_id_of(scope), form)
                outputs = await run_beside(wait_for_disconnect(receive), answer)
        except CallerLeftError:
            return
        except SwarmError as error:
            await send_error(scope, send, error)
        else:
            body = orjson.dumps({"ok": True, "outputs": outputs})
            await send_json(send, body, account.headers)


async def _generate(
    context: AppContext, caller: Caller, account: Account, request_id: RequestId, form: GenerateForm
) -> str:
    """Return the new text; special tokens are part of it, as Petals decodes them."""
    model = context.gateway.engine.model(form.model)
    prompt_ids = await model.encode(form.inputs) if form.inputs else []
    num_context = context_size(prompt_ids)
    max_new_tokens = form.max_new_tokens or (form.max_length or 0) - num_context
    if max_new_tokens < 1:
        raise MaxLengthExceededError(num_context, 1, form.max_length or 0)
    request = GenerationRequest(
        request_id=request_id,
        prompt_ids=tuple(prompt_ids),
        max_new_tokens=max_new_tokens,
        sampling=form.sampling(model.facts.vocab_size),
        stop_token_ids=tuple(form.stop_token_ids or ()),
        ignore_eos=form.ignore_eos,
        keeps_special_tokens=True,
    )
    texts = []
    news = SwarmNews(context, model.id)
    opened = reserved_conversation(context, account, caller, request, news, model.id)
    async with (
        opened as conversation,
        aclosing(
            accounted_events(conversation, request, account, num_prompt=len(prompt_ids))
        ) as events,
    ):
        async for event in events:
            texts.append(event.text)
    return "".join(texts)


async def _read_fields(scope: Scope, receive: Receive) -> dict[str, object]:
    """Return the arguments; the query string wins over the body, as it does in Petals."""
    request = Request(scope, receive)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        fields = await _read_form(request)
    else:
        body = await read_body(receive)
        fields = parse_json_object(body) if body else {}
    return {**fields, **request.query_params}


async def _read_form(request: Request) -> dict[str, object]:
    try:
        async with request.form(max_files=0, max_fields=_MAX_FIELDS) as form:
            fields = dict(form)
    except HTTPException as error:
        raise BadRequestError("broken form body") from error
    if any(isinstance(value, UploadFile) for value in fields.values()):
        raise BadRequestError("expected form fields, got a file")
    return dict(fields)
