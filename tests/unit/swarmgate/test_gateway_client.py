"""The commands' own small HTTP client, against a real HTTP server."""

import json

import pytest

from swarmgate.errors import GatewayRequestError
from swarmgate.gateway_client import GatewayClient, choose_model
from tests.unit.swarmgate.http_answers import answering


def test_a_stream_yields_its_events_and_leaves_comments_out() -> None:
    """`[DONE]` ends it."""
    body = b': hello\n\ndata: {"a": 1}\n\ndata: {"a": 2}\n\ndata: [DONE]\n\n'

    with answering(200, body) as url:
        events = list(GatewayClient(url).stream("/v1/completions", {}))

    assert events == [{"a": 1}, {"a": 2}]


def test_an_error_inside_a_stream_is_raised() -> None:
    """The status line was sent long before."""
    body = b'data: {"a": 1}\n\ndata: {"error": {"message": "a server is gone"}}\n\n'

    with answering(200, body) as url:
        events = GatewayClient(url).stream("/v1/completions", {})
        assert next(events) == {"a": 1}
        with pytest.raises(GatewayRequestError, match=r"^a server is gone$"):
            next(events)


def test_an_error_answer_is_told_in_its_own_words() -> None:
    """OpenAI's form."""
    body = json.dumps({"error": {"message": "unknown model 'x'", "code": "unknown_model"}})

    with (
        answering(404, body.encode()) as url,
        pytest.raises(GatewayRequestError, match=r"^unknown model 'x'$"),
    ):
        GatewayClient(url).get("/v1/models")


@pytest.mark.parametrize(
    ("api_key", "what"), [(None, "asks for an API key"), ("wrong", "does not know this API key")]
)
def test_a_gateway_that_wants_a_key_is_told_with_the_way_to_give_one(
    api_key: str | None, what: str
) -> None:
    """Its own words are for programs that send headers."""
    body = json.dumps({"error": {"message": "send it as a header", "code": "invalid_api_key"}})

    with (
        answering(401, body.encode()) as url,
        pytest.raises(GatewayRequestError, match=f"{url} {what}: set GATEWAY_API_KEY, or give --"),
    ):
        GatewayClient(url, api_key).get("/v1/models")


def test_the_reasons_of_an_unready_gateway_are_told() -> None:
    """`swarmgate up` says them when it gives up."""
    with (
        answering(503, b'{"ready": false, "reasons": ["no token", "no store"]}') as url,
        pytest.raises(GatewayRequestError, match=r"^no token; no store$"),
    ):
        GatewayClient(url).get("/health/ready")


def test_an_answer_of_something_else_is_told_by_its_status() -> None:
    """E.g. a proxy's page."""
    with (
        answering(502, b"<html>") as url,
        pytest.raises(GatewayRequestError, match="answered 502"),
    ):
        GatewayClient(url).get("/v1/models")


def test_a_gateway_that_is_not_there_is_told_with_its_address() -> None:
    """The port is one that was free a moment ago."""
    with answering(200, b"") as url:
        pass

    with pytest.raises(GatewayRequestError, match=rf"at {url} \(.*refused\): start one"):
        GatewayClient(url).get("/v1/models")


def test_other_schemes_are_refused() -> None:
    """urllib would read local files."""
    with pytest.raises(GatewayRequestError, match="expected a URL"):
        GatewayClient("file:///etc/passwd")


def test_the_first_model_is_taken_when_none_is_named() -> None:
    """A named one is not even looked up."""
    with answering(200, b'{"data": [{"id": "demo"}, {"id": "other"}]}') as url:
        assert choose_model(GatewayClient(url), None) == "demo"
    assert choose_model(GatewayClient(url), "other") == "other"
