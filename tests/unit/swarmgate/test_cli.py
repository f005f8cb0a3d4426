"""The command line starts fast and speaks in sentences."""

import subprocess
import sys

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from swarm_server.settings import ServerSettings
from swarmgate import cli

COMMANDS = ("up", "gateway", "serve", "bootstrap", "status", "chat", "generate")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    """`--help` works without a model, a swarm or a gateway."""
    result = CliRunner().invoke(cli.app, [command, "--help"])

    assert result.exit_code == 0
    assert f"swarmgate {command}" in result.output or "Usage:" in result.output


def test_help_imports_neither_torch_nor_hivemind() -> None:
    """They take seconds; `swarmgate up` must start its processes at once."""
    program = (
        "import sys, swarmgate.cli, swarmgate.supervisor.swarm, swarmgate.service;"
        "heavy = ('torch', 'hivemind.p2p', 'hivemind.dht', 'transformers', 'fastapi');"
        "print([m for m in heavy if m in sys.modules])"
    )

    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert printed.stdout.strip() == b"[]"


def test_an_error_of_ours_is_one_sentence_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, nothing on stdout."""
    monkeypatch.setattr(sys, "argv", ["swarmgate", "serve", "models/demo"])

    with pytest.raises(SystemExit) as exit_info:
        cli.main()

    assert exit_info.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "swarmgate: say which swarm to join with --initial-peers, or use --new-swarm\n"
    )


def test_the_defaults_that_serve_shows_are_those_of_its_settings() -> None:
    """They are written twice, because `--help` must not import the server."""
    group = get_command(cli.app)
    assert isinstance(group, TyperGroup)
    fields = ServerSettings.model_fields

    shown = {p.name: p.default for p in group.commands["serve"].params if p.name in fields}

    # No value of a repeatable option is None here and an empty tuple there.
    assert {name: fields[name].default or None for name in shown if name != "model"} == {
        name: default for name, default in shown.items() if name != "model"
    }
