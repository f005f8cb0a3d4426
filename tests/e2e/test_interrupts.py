"""Ctrl-C while a server is not there yet."""

import signal
import socket

import pytest

from tests.harness.programs import Program

START_S = 40
END_S = 8
"""Two seconds are for threads; a hub that is silent would be waited for a minute."""


def test_a_server_that_waits_for_a_hub_ends_when_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hub takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.settimeout(START_S)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.getsockname()[1]}")
        with Program("serve", "organization/model", "--blocks", "0:2", "--new-swarm") as server:
            connection, _ = hub.accept()
            with connection:
                server.send(signal.SIGINT)

                assert server.wait(timeout_s=END_S) == 0, server.output
    assert "Traceback" not in server.output
