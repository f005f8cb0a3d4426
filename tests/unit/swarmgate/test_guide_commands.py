"""Every command that the guide and README.md print is ours, with options that it has."""

import os
import re
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from swarmgate import cli
from tests.harness.programs import ROOT

PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs/guide").glob("*.md"))]


def commands_of(page: Path) -> list[list[str]]:
    """Return the words of each command in the shell blocks of a page, comments left out."""
    blocks = re.findall(
        r"^```bash.*?\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def commands_named(name: str) -> list[list[str]]:
    """Return the arguments of each command of that name, from all pages."""
    commands = [words for page in PAGES for words in commands_of(page)]
    return [words[1:] for words in commands if words[:1] == [name]]


@pytest.mark.parametrize("arguments", commands_named("swarmgate"), ids=" ".join)
def test_a_command_of_ours_has_these_options(arguments: list[str]) -> None:
    """It is read as far as to its call."""
    name, *options = arguments
    command_line = get_command(cli.app)
    assert isinstance(command_line, TyperGroup)

    command_line.commands[name].make_context(name, options)


@pytest.mark.parametrize("arguments", commands_named("make"), ids=" ".join)
def test_a_target_of_make_is_there(arguments: list[str]) -> None:
    """It is planned, not made."""
    environment = {"PATH": os.environ["PATH"]}  # without the variables of a `make` around us
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_every_example_that_is_named_is_there() -> None:
    """As `python -m examples.…`."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)

    modules = set(re.findall(r"python -m (examples\.\w+)", text))

    assert len(modules) >= 8
    assert all(find_spec(module) for module in modules)
