"""The reference page of all errors that callers can meet, made of the table and the classes."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Final

import app
import swarm_client
import swarm_protocol
from app.errors.replies import INTERNAL_CODE
from app.errors.rules import INTERNAL, RULES, Rule
from swarm_protocol.errors import SwarmError

_PACKAGES: Final = (app, swarm_client, swarm_protocol)
_INTRODUCTION: Final = """\
# Errors

What callers can be told, by the stable `code` that every error has. Messages may change; programs
look at the code.

- OpenAI's paths and our own: `{"error": {"message", "type", "param", "code", "request_id"}}`.
- An event stream that has begun: the same object, as its last event.
- `POST /api/v1/generate`: `{"ok": false, "traceback": "one sentence"}`, with status 200, as Petals'
  clients expect, unless the request was refused at the door (key, limit, body, drain).
- WebSockets: the same object, and then the connection is closed with the close code.

*Again* says whether the same request may succeed later; if the answer has `Retry-After`, not
earlier. Every answer has an `x-request-id`, and so have the gateway's log lines about it.
"""
_COLUMNS: Final = (
    "| code | status | close code | again | meaning | what to do |\n|---|---|---|---|---|---|"
)


def errors_page(note: str) -> str:
    """Return the page; `note` says how it was made."""
    meanings = {error.code: error for error in reversed(caller_errors())}
    lines = [f"<!-- {note} -->", _INTRODUCTION, _COLUMNS]
    for code, rule in sorted(RULES.items(), key=lambda item: (item[1].http_status, item[0])):
        error = meanings[code]
        is_retryable = error.retryable or rule.http_status > 500
        lines.append(_row(code, rule, _first_sentence(error), is_retryable=is_retryable))
    meaning = "A fault of ours; nothing else is told."
    lines.append(_row(INTERNAL_CODE, INTERNAL, meaning, is_retryable=False))
    return "\n".join(lines) + "\n"


def caller_errors() -> list[type[SwarmError]]:
    """Return the classes that give a code of the table its meaning, base classes first."""
    for package in _PACKAGES:
        _import_all(package)
    names = {package.__name__ for package in _PACKAGES}
    return [
        error
        for error in _subclasses(SwarmError)
        if "code" in vars(error) and error.__module__.partition(".")[0] in names
    ]


def _import_all(package: ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def _subclasses(parent: type[SwarmError]) -> Iterator[type[SwarmError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)


def _first_sentence(error: type[SwarmError]) -> str:
    """Return what the class is, as its docstring says."""
    paragraph = (error.__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).partition("; `")[0].rstrip(".") + "."


def _row(code: str, rule: Rule, meaning: str, *, is_retryable: bool) -> str:
    again = "yes" if is_retryable else "no"
    cells = (f"`{code}`", rule.http_status, rule.close_code, again, meaning, rule.advice)
    return f"| {' | '.join(map(str, cells))} |"
