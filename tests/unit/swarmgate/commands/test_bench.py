"""`swarmgate bench` against a real HTTP server."""

import json

from typer.testing import CliRunner

from swarmgate.cli import app
from swarmgate.errors import GatewayRequestError
from tests.unit.swarmgate.http_answers import answering

FRAMES = (
    {"choices": [{"delta": {"role": "assistant", "content": ""}}], "usage": None},
    {"choices": [{"delta": {"content": "Hey"}}], "usage": None},
    {"choices": [], "usage": {"completion_tokens": 3}},
)
STREAM = b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in FRAMES)
ARGUMENTS = ("bench", "--model", "demo", "--answers", "5", "--streams", "2")


def test_every_answer_is_counted() -> None:
    """With the tokens that the gateway says it has."""
    with answering(200, STREAM + b"data: [DONE]\n\n") as url:
        done = CliRunner().invoke(app, [*ARGUMENTS, "--json", "--url", url])

    figures = json.loads(done.stdout)
    assert (figures["model"], figures["answers"], figures["tokens"]) == ("demo", 5, 15)
    assert (figures["streams"], figures["failed"]) == (2, 0)
    assert figures["first_token_ms"]["p50"] > 0


def test_people_get_lines() -> None:
    """The figures that matter, with their units."""
    with answering(200, STREAM) as url:
        lines = CliRunner().invoke(app, [*ARGUMENTS, "--url", url]).stdout.splitlines()

    assert lines[0].startswith("demo: 5 answers, 2 at once, 15 tokens in ")
    assert [line.split("  ")[0] for line in lines[1:]] == [
        *("all together", "first token", "next token")
    ]


def test_a_gateway_that_refuses_everything_has_no_figures() -> None:
    """Its own sentence is told instead."""
    body = json.dumps({"error": {"message": "unknown model 'demo'"}}).encode()
    with answering(404, body) as url:
        done = CliRunner().invoke(app, [*ARGUMENTS, "--url", url])

    assert isinstance(done.exception, GatewayRequestError)
    assert str(done.exception) == "unknown model 'demo'"
