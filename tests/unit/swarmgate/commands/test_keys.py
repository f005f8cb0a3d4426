"""Keys made and ended on the command line, in a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from swarmgate.cli import app


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the keys are."""
    return tmp_path / "keys.json"


def _run(file: Path, *arguments: str) -> Any:
    """Run `swarmgate keys …` and return what it prints as JSON."""
    result = CliRunner().invoke(app, ["keys", *arguments, "--file", str(file), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_key_is_made_as_asked(file: Path) -> None:
    """Its text begins with its id."""
    new = _run(file, "create", "app", "--models", "a,b", "--admin", "--max-streams", "3")

    assert new["key"].startswith(f"sg_{new['id']}_")
    assert new["scopes"] == {"models": ["a", "b"], "surfaces": [], "is_admin": True}
    assert new["limits"]["max_streams"] == 3


def test_list_shows_keys_without_their_text(file: Path) -> None:
    """Oldest first."""
    made = [_run(file, "create", name) for name in ("one", "two")]

    listed = _run(file, "list")["keys"]

    assert [key["name"] for key in listed] == ["one", "two"]
    assert made[0]["key"] not in json.dumps(listed)


def test_revoked_key_is_shown_as_such(file: Path) -> None:
    """It stays in the list."""
    new = _run(file, "create", "app")

    _run(file, "revoke", new["id"])

    result = CliRunner().invoke(app, ["keys", "list", "--file", str(file)])
    assert result.stdout.split()[:3] == [new["id"], "revoked", "app"]


def test_rotated_key_has_a_new_text_and_its_old_id(file: Path) -> None:
    """With a grace, both secrets are good."""
    old = _run(file, "create", "app")

    new = _run(file, "rotate", old["id"], "--grace-s", "60")

    assert (new["id"], new["num_secrets"]) == (old["id"], 2)
    assert new["key"] != old["key"]


def test_without_json_the_new_key_is_all_that_is_printed(file: Path) -> None:
    """`KEY=$(swarmgate keys create …)` works."""
    result = CliRunner().invoke(app, ["keys", "create", "app", "--file", str(file)])

    assert len(result.stdout.split()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "app"], "no place to keep keys"),
        (["create", "app", "--surfaces", "nope"], "--surfaces: should be 'openai', 'anthropic'"),
        (["create", "x" * 101], "NAME: should have at most 100 characters, got"),
        (["revoke", "0" * 16, "--file", "FILE"], "no key of this id"),
        (["list", "--redis-url", "nonsense"], "the Redis URL must look like"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: list[str], message: str, file: Path
) -> None:
    """An error of ours, which `main` prints."""
    arguments = [str(file) if argument == "FILE" else argument for argument in arguments]

    result = CliRunner().invoke(app, ["keys", *arguments])

    assert message in str(result.exception)
