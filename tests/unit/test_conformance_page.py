"""The page of conformance checks names tests that exist, for every check."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/conformance.md"


def checks() -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each check and the tests named for it, as `path::name`."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if row := re.match(r"\| (\d+) \|", line):
            yield int(row[1]), re.findall(r"`(tests/[^`]+)`", line)


def functions_in(path: Path) -> set[str]:
    """Return the names of the functions in a module; none if there is no such module."""
    tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_check_is_there_once_and_names_a_test() -> None:
    """In the order of their numbers."""
    rows = list(checks())

    assert [number for number, _ in rows] == list(range(1, 41))
    assert all(tests for _, tests in rows)


def test_every_named_test_exists() -> None:
    """A test that is renamed or deleted must be replaced on the page."""
    named = {test for _, tests in checks() for test in tests}

    missing = [
        f"{path}::{name}"
        for path, _, name in (test.partition("::") for test in sorted(named))
        if not name.startswith("test_") or name not in functions_in(ROOT / path)
    ]

    assert missing == []
