"""`swarmgate serve`: lend this machine's compute to a swarm."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmgate.commands.options import (
    AnnounceMaddrs,
    HostMaddrs,
    Identity,
    InitialPeers,
    LogFormat,
    NewSwarm,
    check_swarm_choice,
    make_node_settings,
    read_peers,
    wrong_options,
)
from swarmgate.demo_model import find_model
from swarmgate.errors import OptionError

if TYPE_CHECKING:
    from swarm_server.settings import ServerSettings


def serve(
    model: Annotated[str, typer.Argument(help="Directory of a model, or a hub repository.")],
    blocks: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Blocks to hold, e.g. 0:8 for the first eight."),
    ] = None,
    num_blocks: Annotated[
        int | None, typer.Option(help="How many blocks to hold; the server chooses which.")
    ] = None,
    initial_peers: InitialPeers = None,
    new_swarm: NewSwarm = False,
    identity: Identity = None,
    host_maddrs: HostMaddrs = None,
    announce_maddrs: AnnounceMaddrs = None,
    shortcuts: Annotated[
        bool,
        typer.Option(
            help="Let programs of the same user on this machine stream past libp2p, "
            "over a local socket."
        ),
    ] = True,
    dht_prefix: Annotated[
        str | None, typer.Option(help="Name under which the model's servers meet.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of the hub repository.")] = None,
    max_disk_gb: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Limit of all stored models of the hub; those used long ago make room.",
        ),
    ] = None,
    adapters: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="Directory or hub repository of a LoRA adapter that clients may ask for; "
            "repeatable.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device, e.g. cpu or cuda:0.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads of one computation.")] = None,
    kv_tokens: Annotated[int, typer.Option(help="KV memory, in tokens over all sessions.")] = 16384,
    kv_overcommit: Annotated[
        float, typer.Option(help="How many times the KV memory is promised to sessions.")
    ] = 4.0,
    page_size: Annotated[int, typer.Option(help="Tokens of one page of KV memory.")] = 64,
    max_batch_rows: Annotated[
        int, typer.Option(help="Most rows, over all sessions, that are decoded together.")
    ] = 256,
    max_chunk_ms: Annotated[
        float,
        typer.Option(help="Milliseconds for which a piece of a prompt may hold up other sessions."),
    ] = 50.0,
    public_name: Annotated[
        str | None, typer.Option(help="Name shown to others beside the peer id.")
    ] = None,
    log_format: LogFormat = "json",
) -> None:
    """Hold blocks of MODEL and run them for a swarm.

    Ctrl-C or SIGTERM drains it.

    With neither --blocks nor --num-blocks it holds all blocks. Prints one JSON line when it
    serves: ready, peer_id, maddrs, blocks, model.
    """
    peers = read_peers(initial_peers)
    check_swarm_choice(peers, is_new=new_swarm)
    if blocks is not None and num_blocks is not None:
        raise OptionError("--blocks and --num-blocks exclude each other")
    settings = _check(
        model=find_model(model),
        blocks=blocks,
        num_blocks=num_blocks,
        dht_prefix=dht_prefix,
        revision=revision,
        max_disk_bytes=None if max_disk_gb is None else int(max_disk_gb * 1e9),
        adapters=tuple(adapters or ()),
        device=device,
        dtype=dtype,
        threads=threads,
        kv_tokens=kv_tokens,
        kv_overcommit=kv_overcommit,
        page_size=page_size,
        max_batch_rows=max_batch_rows,
        max_chunk_ms=max_chunk_ms,
        public_name=public_name,
    )

    # Imported here: hivemind and torch take seconds, which `--help` need not wait for.
    from swarmgate.block_server import run_block_server
    from swarmgate.service import run_until_signalled

    node_settings = make_node_settings(
        peers, identity, host_maddrs, announce_maddrs, has_shortcuts=shortcuts
    )
    run_until_signalled(run_block_server(node_settings, settings), log_format=log_format)


def _check(**options: Any) -> "ServerSettings":
    from pydantic import ValidationError

    from swarm_server.settings import ServerSettings

    try:
        return ServerSettings(**options)
    except ValidationError as error:
        raise wrong_options(error, argument="model") from error
