"""Every script of `examples/` and every marked snippet of the guide runs against a real swarm."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.harness.prepared_python import run_prepared
from tests.harness.product import Product
from tests.harness.programs import DEMO_MODEL, ROOT

pytestmark = pytest.mark.timeout(120)

SNIPPETS: Final = [
    (page.name, snippet)
    for page in sorted((ROOT / "docs/guide").glob("*.md"))
    for snippet in re.findall(
        r"^```python test\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
]


@pytest.fixture(scope="module")
def peers(product: Product) -> list[str]:
    """Addresses of a running swarm of two servers."""
    status, swarm = product.get("/api/v1/swarm")
    assert status == 200
    return list(swarm["maddrs"])


def run(*command: str) -> str:
    """Run a Python program as its reader would; return what it prints, once it has ended well."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_example(name: str, peers: list[str], *options: str) -> str:
    """Run a script of `examples/` in a swarm."""
    arguments = ("--model", DEMO_MODEL, "--initial-peers", *peers, *options)
    return run_prepared(f"examples.{name}", *arguments, cwd=str(ROOT), timeout_s=110)


def test_generate_text_answers_in_every_way(peers: list[str]) -> None:
    """Greedy, sampled, with beams and as a stream."""
    output = run_example("generate_text", peers)

    assert "Paris" in output
    assert [line.split(":")[0] for line in output.splitlines()] == [
        *("greedy", "sampled", "beams", "stream"),
    ]


def test_chat_session_remembers_and_goes_back(peers: list[str]) -> None:
    """A turn sends only what is new, and the position can be set back."""
    output = run_example("chat_session", peers)

    assert output.count("Model: ") == 3
    assert "once more from position" in output


def test_slices_give_gradients(peers: list[str]) -> None:
    """Of the first five blocks."""
    output = run_example("slices_and_gradients", peers)

    assert "from the first five: (1, 3, 256)" in output
    assert float(numbers(output.splitlines()[-1])[-1]) > 0


def test_an_adapter_between_blocks_learns_and_is_saved(peers: list[str], tmp_path: Path) -> None:
    """The loss falls; what was saved predicts what was wanted."""
    output = run_example("adapter_between_blocks", peers, "--steps", "15", *saved_in(tmp_path))

    first, last = numbers(output.splitlines()[-3])
    assert float(last) < float(first) / 2
    assert "predicted: [1, 0, 1] wanted: [1, 0, 1]" in output
    assert (tmp_path / "trained.safetensors").is_file()


def test_own_sampling_tells_a_story_without_the_banned_words(peers: list[str]) -> None:
    """Three ways to decode by hand; the script itself checks the words."""
    output = run_example("own_sampling", peers)

    assert output.startswith("greedy: ")
    assert "without 'Once'" in output


def test_a_private_swarm_starts_and_ends_in_one_script() -> None:
    """It needs no swarm that is there already."""
    output = run("-m", "examples.private_swarm", "--model", DEMO_MODEL)

    assert output.count(" holds blocks ") == 2
    assert "Once upon a time" in output


def test_a_chatbot_gets_a_character_that_is_saved(peers: list[str], tmp_path: Path) -> None:
    """A fresh model with the saved prompts answers other than the bare one."""
    output = run_example("personified_chatbot", peers, "--steps", "12", *saved_in(tmp_path))

    assert output.count(" -> ") == 12
    assert (tmp_path / "trained.safetensors").is_file()


def test_a_text_classifier_learns_and_is_saved(peers: list[str], tmp_path: Path) -> None:
    """A fresh model with the saved parts sorts exactly as the trained one."""
    output = run_example("text_classification", peers, "--steps", "20", *saved_in(tmp_path))

    _, after, reloaded = re.findall(r": (\d+)%", output)
    assert after == reloaded
    assert int(after) >= 75


def test_the_snippets_of_the_guide_run(product: Product) -> None:
    """One after the other in one process, each with names of its own; tracebacks name the page."""
    pages = [(name, text.replace("http://127.0.0.1:8000", product.url)) for name, text in SNIPPETS]
    program = f"for name, text in {pages!r}: exec(compile(text, name, 'exec'), {{}}); print(name)"

    output = run("-c", program)

    assert len(pages) >= 6
    assert all(f"{name}\n" in output for name, _ in pages)


def test_without_a_swarm_an_example_says_what_to_do() -> None:
    """Nobody reads a traceback to find out that nothing is running."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from examples.arguments import *; ask_gateway('http://127.0.0.1:9')",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("no gateway answers at http://127.0.0.1:9: start one")


def saved_in(directory: Path) -> tuple[str, str]:
    """Return the option that says where an example saves."""
    return ("--output", str(directory))


def numbers(line: str) -> list[str]:
    """Return the decimal numbers in a line."""
    return re.findall(r"\d+\.\d+", line)
