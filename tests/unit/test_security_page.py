"""The page of threats names a test for each promise, and those tests exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/design/security.md").read_text(encoding="utf-8")
FILES = sorted(set(re.findall(r"`([\w/]+/[\w]+\.(?:py|mjs))`", PAGE)))
NOTHING_PROMISED = {"LLM03"}
"""Risks of what the gateway does not do at all."""


def test_every_named_file_has_tests() -> None:
    """A file that is renamed or deleted must be replaced on the page."""
    missing = [
        file
        for file in FILES
        if not (ROOT / "tests" / file).exists()
        or "def test_" not in (ROOT / "tests" / file).read_text()
    ]

    assert len(FILES) > 20
    assert missing == []


def test_every_risk_names_a_test() -> None:
    """All ten, in the order of the list."""
    rows = re.findall(r"^\| (LLM\d\d) .*$", PAGE, re.MULTILINE)
    lines = re.findall(r"^\| LLM\d\d .*$", PAGE, re.MULTILINE)
    untested = {risk for risk, line in zip(rows, lines, strict=True) if ".py`" not in line}

    assert rows == [f"LLM{number:02}" for number in range(1, 11)]
    assert untested == NOTHING_PROMISED


def test_every_cap_names_a_test() -> None:
    """A bound that nothing tries is a hope."""
    caps = PAGE.partition("## Sizes and times")[2].partition("##")[0]
    rows = [line for line in caps.splitlines() if line.startswith("| ")][1:]

    assert len(rows) > 5
    assert [row for row in rows if ".py`" not in row] == []
