"""Every snippet that README.md marks with `test` works as it stands."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.harness.programs import ROOT, running_swarm

pytestmark = pytest.mark.timeout(90)

SNIPPETS: Final = re.findall(
    r"^```(bash|python) test\n(.*?)^```$",
    (ROOT / "README.md").read_text(encoding="utf-8"),
    re.DOTALL | re.MULTILINE,
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Host and port of a running gateway."""
    with running_swarm() as (_, url):
        yield url.removeprefix("http://")


def test_the_readme_has_snippets_for_every_surface() -> None:
    """v1, v2, OpenAI's and the library: none has lost its mark."""
    text = "".join(snippet for _, snippet in SNIPPETS)

    for surface in (
        "/api/v1/generate",
        "/api/v2/generate",
        "/v1/chat",
        "swarm_client",
        "swarmgate",
    ):
        assert surface in text


@pytest.mark.parametrize(("language", "snippet"), SNIPPETS)
def test_a_snippet_of_the_readme_runs(address: str, language: str, snippet: str) -> None:
    """It prints something, and no error in any dialect."""
    program = {"bash": ["bash", "-euc"], "python": [sys.executable, "-c"]}[language]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    done = subprocess.run(
        [*program, snippet.replace("127.0.0.1:8000", address)],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert '{"error"' not in done.stdout
    assert '"ok":false' not in done.stdout
