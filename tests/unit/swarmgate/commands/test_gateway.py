"""`swarmgate gateway` with options that do not fit."""

import pytest
from typer.testing import CliRunner

from swarmgate.cli import app


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "--port: should be less than or equal to 65535"),
        (["--host-maddrs", "10.0.0.1:1", "--host", "::1"], "--host-maddrs: a multiaddr begins"),
        (["--models", "a,a"], "--models names a 2 times"),
        (["--redis-url", "localhost:6379"], "--redis-url must begin with one of redis://"),
        (
            ["--workers", "2"],
            "2 workers share streams, conversations and limits through Redis: set "
            "SWARMGATE_REDIS_URL",
        ),
        (["--log-format", "xml"], "--log-format: should be 'json' or 'console'"),
    ],
)
def test_what_does_not_fit_is_told_by_the_name_it_was_given_by(
    arguments: list[str], message: str
) -> None:
    """Settings of the environment keep theirs."""
    result = CliRunner().invoke(app, ["gateway", *arguments])

    assert message in str(result.exception)


def test_a_setting_of_the_environment_is_told_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though an option was given, too."""
    monkeypatch.setenv("SWARMGATE_THREADS", "0")

    result = CliRunner().invoke(app, ["gateway", "--port", "8001"])

    assert "SWARMGATE_THREADS: should be greater than or equal to 1" in str(result.exception)
