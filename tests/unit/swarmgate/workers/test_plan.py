"""What workers are told, and what they must not share."""

from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings, load_settings
from swarmgate.errors import OptionError
from swarmgate.workers.plan import WorkersPlan, as_environment, shift_ports

REDIS: dict[str, Any] = {"redis_url": "redis://127.0.0.1:6379/0", "workers": 3}


def plan(**given: Any) -> WorkersPlan:
    return WorkersPlan(Settings(**REDIS, **given), {"HOME": "/home/me"}, Path("/metrics"), 8)


def test_ports_in_the_swarm_count_up() -> None:
    """A free port stays one, and what is no port is left alone."""
    maddrs = ("/ip4/10.0.0.31/tcp/31337", "/ip4/10.0.0.31/udp/4001/quic", "/ip4/0.0.0.0/tcp/0")

    assert shift_ports(maddrs, 0) == maddrs
    assert shift_ports(maddrs, 2) == (
        "/ip4/10.0.0.31/tcp/31339",
        "/ip4/10.0.0.31/udp/4003/quic",
        "/ip4/0.0.0.0/tcp/0",
    )


def test_a_port_over_the_last_one_is_refused() -> None:
    """Before anything starts."""
    with pytest.raises(OptionError, match="65536"):
        shift_ports(["/ip4/0.0.0.0/tcp/65535"], 1)


def test_each_worker_is_a_peer_of_its_own() -> None:
    """The first one keeps the key that a lone gateway would have."""
    wanted = plan(identity=Path("/state/gateway.key"))

    environments = [wanted.environment_of(index, ()) for index in range(3)]

    assert "SWARMGATE_IDENTITY" not in environments[0]
    assert environments[1]["SWARMGATE_IDENTITY"] == "/state/gateway.key.1"
    assert environments[2]["SWARMGATE_IDENTITY"] == "/state/gateway.key.2"
    assert {environment["SWARMGATE_THREADS"] for environment in environments} == {"2"}


def test_a_worker_joins_by_the_given_peers_and_by_its_siblings() -> None:
    """So it finds the swarm when the bootstrap is away, or when a worker was the bootstrap."""
    environment = plan(initial_peers=("/dns4/a/tcp/1/p2p/Qa",)).environment_of(
        1, ("/ip4/127.0.0.1/tcp/2/p2p/Qb",)
    )

    assert environment["SWARMGATE_INITIAL_PEERS"] == (
        '["/dns4/a/tcp/1/p2p/Qa", "/ip4/127.0.0.1/tcp/2/p2p/Qb"]'
    )


def test_what_the_command_line_gave_reaches_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over what the environment says, where an option takes something back, too."""
    monkeypatch.setenv("SWARMGATE_INITIAL_PEERS", "/dns4/old/tcp/1/p2p/Qa")
    given = {"models": ("models/demo", "org/other"), "port": 9000, "initial_peers": ()}
    for name, value in as_environment({**REDIS, **given}).items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert settings.models == ("models/demo", "org/other")
    assert (settings.port, settings.workers, settings.initial_peers) == (9000, 3, ())
