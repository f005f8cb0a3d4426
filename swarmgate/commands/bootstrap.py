"""`swarmgate bootstrap`: the peer by which others find a swarm."""

from swarmgate.commands.options import (
    AnnounceMaddrs,
    HostMaddrs,
    Identity,
    InitialPeers,
    LogFormat,
    make_node_settings,
)


def bootstrap(
    identity: Identity = None,
    host_maddrs: HostMaddrs = None,
    announce_maddrs: AnnounceMaddrs = None,
    initial_peers: InitialPeers = None,
    log_format: LogFormat = "json",
) -> None:
    """Run a peer without blocks, by which others join; with --initial-peers, one more of them.

    Prints one JSON line when it listens: ready, peer_id, maddrs.
    """
    from swarmgate.bootstrap_node import run_bootstrap
    from swarmgate.service import run_until_signalled

    settings = make_node_settings(initial_peers, identity, host_maddrs, announce_maddrs)
    run_until_signalled(run_bootstrap(settings), log_format=log_format)
