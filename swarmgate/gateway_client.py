"""Speaks HTTP to a gateway, for the commands that use one. Only the standard library: it is quick
to import, and a command line makes one request at a time.
"""

import json
from collections.abc import Generator, Mapping
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from swarmgate.errors import GatewayRequestError

_TIMEOUT_S: Final = 120.0
_MAX_ERROR_BYTES: Final = 64 * 1024
_DIRECT: Final = build_opener(ProxyHandler({}))  # proxies rarely know the way to loopback


class GatewayClient:
    """One gateway, by its URL. Every method raises `GatewayRequestError` when it fails."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise GatewayRequestError(f"expected a URL like http://127.0.0.1:8000, got {url!r}")
        self._url = url.rstrip("/")
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"

    def get(self, path: str) -> Any:
        """Return the JSON answer to a GET request, e.g. of `/v1/models`."""
        with self._open(path, None) as response:
            return json.loads(response.read())

    def stream(self, path: str, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Yield the events of a streaming POST request; closing the generator ends it."""
        with self._open(path, body) as response:
            try:
                for line in response:
                    data = line.strip().removeprefix(b"data: ")
                    if not line.startswith(b"data: ") or data == b"[DONE]":
                        continue
                    event = json.loads(data)
                    if "error" in event:
                        raise GatewayRequestError(_message(event))
                    yield event
            except (OSError, HTTPException) as error:
                raise GatewayRequestError("the connection to the gateway broke") from error

    def _open(self, path: str, body: Mapping[str, Any] | None) -> HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data, self._headers)
        try:
            response: HTTPResponse = _DIRECT.open(request, timeout=_TIMEOUT_S)
        except HTTPError as error:
            with error:
                raise GatewayRequestError(self._explain(error)) from error
        except (URLError, OSError, HTTPException) as error:
            raise GatewayRequestError(
                f"no gateway answers at {self._url} ({_reason(error)}): start one with "
                "`swarmgate up`, or say where one is with --url"
            ) from error
        return response

    def _explain(self, error: HTTPError) -> str:
        if error.code != HTTPStatus.UNAUTHORIZED:
            return _error_text(error)
        has_key = "authorization" in self._headers
        what = "does not know this API key" if has_key else "asks for an API key"
        return f"the gateway at {self._url} {what}: set GATEWAY_API_KEY, or give --api-key"


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason)


def _error_text(error: HTTPError) -> str:
    try:
        return _message(json.loads(error.read(_MAX_ERROR_BYTES)))
    except ValueError:
        return f"the gateway answered {error.code} {error.reason}"


def _message(answer: Any) -> str:
    """Return what an error answer says, in OpenAI's form or that of `/health/ready`."""
    facts = answer if isinstance(answer, dict) else {}
    match facts.get("error"), facts.get("reasons"):
        case {"message": str(message)}, _:
            return message
        case _, [*reasons]:
            return "; ".join(map(str, reasons))
        case _:
            return f"the gateway refused: {json.dumps(answer)}"


def choose_model(gateway: GatewayClient, wanted: str | None) -> str:
    """Return `wanted`, or the first model that the gateway offers.

    Raises:
        GatewayRequestError: it offers none, or does not answer.
    """
    if wanted is not None:
        return wanted
    models = gateway.get("/v1/models")["data"]
    if not models:
        raise GatewayRequestError("the gateway offers no model")
    return str(models[0]["id"])
