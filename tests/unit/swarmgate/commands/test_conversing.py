"""`chat`, `generate` and `status`: what people see of a gateway's answers."""

import json

from typer.testing import CliRunner

from swarmgate.cli import app
from tests.unit.swarmgate.http_answers import answering

CHAT_STREAM = (
    b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n'
    b'data: {"choices": [{"delta": {"content": "Good "}}]}\n\n'
    b'data: {"choices": [{"delta": {"content": "day"}, "finish_reason": "stop"}]}\n\n'
    b'data: {"choices": [], "usage": {"total_tokens": 9}}\n\n'
    b"data: [DONE]\n\n"
)
SWARM = {
    "peer_id": "QmGateway",
    "models": [
        {
            "id": "demo",
            "num_blocks": 8,
            "is_reachable": False,
            "missing_blocks": [[4, 8]],
            "servers": [
                {
                    "peer_id": "QmServer",
                    "public_name": "attic",
                    "state": "online",
                    "blocks": [0, 4],
                    "is_banned": False,
                }
            ],
        }
    ],
}


def test_chat_prints_the_answer_and_leaves_at_the_end_of_input() -> None:
    """Empty lines are not sent."""
    with answering(200, CHAT_STREAM) as url:
        result = CliRunner().invoke(
            app, ["chat", "--url", url, "--model", "demo"], input="\nHello\n"
        )

    assert result.exit_code == 0
    assert "Good day\n" in result.stdout


def test_chat_survives_an_error_answer() -> None:
    """One sentence, and the next line may be tried."""
    body = b'{"error": {"message": "a server is gone"}}'

    with answering(503, body) as url:
        result = CliRunner().invoke(app, ["chat", "--url", url, "--model", "demo"], input="Hello\n")

    assert result.exit_code == 0
    assert "swarmgate: a server is gone" in result.stderr


def test_generate_prints_the_text_as_it_comes_or_json() -> None:
    """Both hold the whole text."""
    stream = (
        b'data: {"choices": [{"text": " upon", "finish_reason": null}]}\n\n'
        b'data: {"choices": [{"text": " a", "finish_reason": "length"}]}\n\n'
    )
    arguments = ["generate", "Once", "--model", "demo"]

    with answering(200, stream) as url:
        text = CliRunner().invoke(app, [*arguments, "--url", url])
        facts = CliRunner().invoke(app, [*arguments, "--url", url, "--json"])

    assert text.stdout == " upon a\n"
    assert json.loads(facts.stdout) == {
        "model": "demo",
        "text": " upon a",
        "finish_reason": "length",
    }


def test_status_names_the_blocks_that_nobody_holds() -> None:
    """And who holds the others."""
    with answering(200, json.dumps(SWARM).encode()) as url:
        result = CliRunner().invoke(app, ["status", "--url", url])

    assert result.stdout.splitlines() == [
        "gateway QmGateway",
        "demo: 8 blocks, no server holds blocks 4:8",
        "    0:4   online   QmServer attic",
    ]


def test_status_prints_what_the_gateway_said_as_json() -> None:
    """For scripts; nothing is left out."""
    with answering(200, json.dumps(SWARM).encode()) as url:
        result = CliRunner().invoke(app, ["status", "--url", url, "--json"])

    assert json.loads(result.stdout) == SWARM
