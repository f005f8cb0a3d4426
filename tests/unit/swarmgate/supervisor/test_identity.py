"""The identity file that is written without hivemind."""

import stat
from pathlib import Path

import pytest

from swarm_protocol.hivemind import make_identity
from swarmgate.supervisor.identity import write_identity


def test_hivemind_reads_the_same_peer_id_from_the_file(tmp_path: Path) -> None:
    """The servers are told this id before the gateway has read the file."""
    path = tmp_path / "peer.key"

    assert write_identity(path) == make_identity(path)


def test_only_its_owner_may_read_a_new_identity(tmp_path: Path) -> None:
    """Whoever has the key can be that peer."""
    path = tmp_path / "peer.key"

    write_identity(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    """A peer keeps its name."""
    path = tmp_path / "peer.key"
    write_identity(path)

    with pytest.raises(FileExistsError):
        write_identity(path)
