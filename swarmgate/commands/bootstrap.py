"""`swarmgate bootstrap`: the peer by which others find a swarm."""

from pathlib import Path
from typing import Annotated

import typer

from swarmgate.commands.options import (
    AnnounceMaddrs,
    HostMaddrs,
    Identity,
    InitialPeers,
    LogFormat,
    make_node_settings,
    read_peers,
)


def bootstrap(
    identity: Identity = None,
    host_maddrs: HostMaddrs = None,
    announce_maddrs: AnnounceMaddrs = None,
    initial_peers: InitialPeers = None,
    maddrs_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the addresses to join by here, for --initial-peers @FILE."
        ),
    ] = None,
    log_format: LogFormat = "json",
) -> None:
    """Run a peer without blocks, by which others join a swarm.

    With --initial-peers it is one more of an existing swarm. Prints one JSON line when it listens:
    ready, peer_id, maddrs.
    """
    # Imported here: hivemind and torch take seconds, which `--help` need not wait for.
    from swarmgate.bootstrap_node import run_bootstrap
    from swarmgate.service import run_until_signalled

    peers = read_peers(initial_peers)
    settings = make_node_settings(peers, identity, host_maddrs, announce_maddrs)
    run_until_signalled(run_bootstrap(settings, maddrs_file), log_format=log_format)
