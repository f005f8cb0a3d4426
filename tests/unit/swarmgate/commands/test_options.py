"""Options that several commands share."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from swarm_server.settings import ServerSettings
from swarmgate.commands.options import (
    check_swarm_choice,
    make_node_settings,
    read_peers,
    split_list,
    wrong_options,
)
from swarmgate.errors import OptionError


def test_a_list_option_may_be_repeated_and_each_value_may_hold_several() -> None:
    """Shell variables with commas or spaces work as they are."""
    assert split_list(["a,b", "c  d", ""]) == ("a", "b", "c", "d")
    assert split_list(None) == ()


def test_peers_may_stand_in_a_file(tmp_path: Path) -> None:
    """A bootstrap writes its addresses there with --maddrs-file."""
    file = tmp_path / "maddrs"
    file.write_text("/ip4/10.0.0.1/tcp/1/p2p/QmA\n/ip4/10.0.0.2/tcp/1/p2p/QmB\n")

    assert read_peers([f"/dns4/x/tcp/1/p2p/QmC,@{file}"]) == (
        "/dns4/x/tcp/1/p2p/QmC",
        "/ip4/10.0.0.1/tcp/1/p2p/QmA",
        "/ip4/10.0.0.2/tcp/1/p2p/QmB",
    )


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_file_without_peers_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty or binary: each is named."""
    file = tmp_path / "maddrs"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(OptionError, match=str(file)):
        read_peers([f"@{file}"])


@pytest.mark.parametrize("peer", ["nonsense", "/ip4/10.0.0.1/tcp/1", "10.0.0.1:31337"])
def test_what_is_no_address_of_a_peer_is_refused_at_once(peer: str) -> None:
    """The daemon would be asked for half a minute, and speak of multiaddrs only."""
    with pytest.raises(OptionError, match=f"a multiaddr like .*/p2p/.*got '{peer}'"):
        read_peers([peer])


def test_what_is_no_address_to_listen_at_is_refused_with_its_option() -> None:
    """Before a daemon is started."""
    with pytest.raises(OptionError, match="--announce-maddrs: expected a multiaddr like"):
        make_node_settings([], None, None, ["10.0.0.1:31337"])


def test_a_server_joins_one_swarm_or_starts_one() -> None:
    """Neither would silently serve nobody; both contradict each other."""
    check_swarm_choice(["/ip4/…"], is_new=False)
    check_swarm_choice([], is_new=True)
    with pytest.raises(OptionError, match="exclude"):
        check_swarm_choice(["/ip4/…"], is_new=True)
    with pytest.raises(OptionError, match="which swarm"):
        check_swarm_choice([], is_new=False)


def test_values_that_do_not_fit_are_told_by_their_options_all_at_once() -> None:
    """As they are written on the command line; nobody knows our fields."""
    with pytest.raises(ValidationError) as caught:
        ServerSettings(model="", num_blocks=0, page_size=5000)

    assert str(wrong_options(caught.value, argument="model")) == (
        "MODEL: should have at least 1 character, got ''; "
        "--num-blocks: should be greater than or equal to 1, got 0; "
        "--page-size: should be less than or equal to 4096, got 5000"
    )
