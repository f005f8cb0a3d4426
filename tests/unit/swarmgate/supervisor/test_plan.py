"""What is decided before the first process of a private swarm starts."""

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.errors import CheckpointError
from swarm_protocol.identifiers import BlockRange
from swarmgate.errors import CommandError, PortTakenError, TooManyServersError
from swarmgate.listening import open_listener
from swarmgate.supervisor.plan import (
    SwarmPlan,
    divide_blocks,
    make_plan,
    read_num_blocks,
)


def save_config(directory: Path, **config: object) -> str:
    (directory / "config.json").write_text(json.dumps(config))
    return str(directory)


@given(num_servers=st.integers(1, 20), more=st.integers(0, 100))
def test_the_servers_share_all_blocks_evenly_and_in_order(num_servers: int, more: int) -> None:
    """Every block has one server, and no server has two more than another."""
    spans = divide_blocks(num_servers + more, num_servers)

    assert [i for span in spans for i in range(span.start, span.end)] == list(
        range(num_servers + more)
    )
    assert max(map(len, spans)) - min(map(len, spans)) <= 1


def test_more_servers_than_blocks_are_refused() -> None:
    """One of them would hold nothing."""
    with pytest.raises(TooManyServersError, match="9 servers cannot share 8 blocks"):
        divide_blocks(8, 9)


def test_a_taken_port_is_found_before_anything_starts(tmp_path: Path) -> None:
    """The sentence names the port and the way out."""
    model = save_config(tmp_path, num_hidden_layers=4)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(PortTakenError, match=f"port {port} .* --port"):
            make_plan(model, port=port, num_servers=2)


def test_an_address_of_another_machine_is_refused_with_its_reason() -> None:
    """192.0.2.1 is reserved for documentation and belongs to nobody."""
    with pytest.raises(CommandError, match=r"cannot listen on 192\.0\.2\.1:8000"):
        open_listener("192.0.2.1", 8000)


def test_a_missing_model_is_found_before_anything_starts() -> None:
    """Neither a directory nor a repository."""
    with pytest.raises(CheckpointError, match="no directory"):
        read_num_blocks("./no/such/model")


@pytest.mark.parametrize("num_blocks", [None, "4", 0])
def test_a_config_that_does_not_count_its_blocks_is_refused(
    tmp_path: Path, num_blocks: object
) -> None:
    """A config is input from outside."""
    config = save_config(tmp_path, model_type="llama", num_hidden_layers=num_blocks)

    with pytest.raises(CheckpointError, match="num_hidden_layers must be a positive whole number"):
        read_num_blocks(config)


def test_a_config_of_no_known_family_is_refused(tmp_path: Path) -> None:
    """The sentence names those there are."""
    with pytest.raises(CheckpointError, match="not supported; supported: bloom"):
        read_num_blocks(save_config(tmp_path))


def test_a_family_with_another_name_for_its_blocks_is_asked(tmp_path: Path) -> None:
    """BLOOM's configs say `n_layer`."""
    sizes = {"n_layer": 5, "hidden_size": 8, "vocab_size": 11}

    assert read_num_blocks(save_config(tmp_path, model_type="bloom", **sizes)) == 5


def test_a_broken_config_is_refused(tmp_path: Path) -> None:
    """Half a file, e.g. after an interrupted copy."""
    (tmp_path / "config.json").write_text('{"num_hidden')

    with pytest.raises(CheckpointError, match="not readable JSON"):
        read_num_blocks(str(tmp_path))


def test_servers_are_told_where_the_bootstrap_will_be() -> None:
    """Gateway and servers start at once, so the address is agreed on before."""
    plan = SwarmPlan("models/demo", 8000, (BlockRange(0, 4),), threads=1, swarm_port=31337)

    gateway = plan.gateway_command(Path("peer.key"))
    server = plan.server_command(plan.spans[0], "QmBootstrap")

    assert gateway[gateway.index("--host-maddrs") + 1] == "/ip4/127.0.0.1/tcp/31337"
    assert server[server.index("--initial-peers") + 1] == "/ip4/127.0.0.1/tcp/31337/p2p/QmBootstrap"
    assert server[server.index("--blocks") + 1] == "0:4"
    assert server[-2:] == ["--", "models/demo"]
