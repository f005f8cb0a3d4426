"""Where log lines go."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from app.observability.logs import configure_logging
from swarm_protocol.logs import get_logger


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.getLogger("uvicorn.access").disabled = False
    structlog.reset_defaults()


def test_lines_are_json_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours and the libraries' alike; bound context is part of them."""
    configure_logging("json", "info")
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("app").info("thing_happened", model="demo")
        get_logger("swarm_client").info("span_replayed", peer="Qm")
    logging.getLogger("library").warning("odd %s", "thing")
    structlog.get_logger("app").debug("hidden")

    captured = capsys.readouterr()
    ours, library, theirs = map(json.loads, captured.err.splitlines())
    assert captured.out == ""
    assert (ours["event"], ours["model"], ours["request_id"]) == ("thing_happened", "demo", "r1")
    assert (library["event"], library["peer"], library["request_id"]) == (
        "span_replayed",
        "Qm",
        "r1",
    )
    assert (theirs["event"], theirs["level"]) == ("odd thing", "warning")


def test_console_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """No JSON, no colours in a file."""
    configure_logging("console", "debug")
    structlog.get_logger("app").debug("thing_happened", model="demo")

    assert "thing_happened" in capsys.readouterr().err
