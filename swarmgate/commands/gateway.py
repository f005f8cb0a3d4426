"""`swarmgate gateway`: the HTTP and WebSocket endpoint in front of a swarm."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmgate.commands.options import (
    AnnounceMaddrs,
    HostMaddrs,
    Identity,
    InitialPeers,
    NewSwarm,
    read_peers,
    split_list,
)
from swarmgate.demo_model import find_model
from swarmgate.errors import OptionError

if TYPE_CHECKING:
    from app.settings import Settings


def gateway(
    models: Annotated[
        list[str] | None,
        typer.Option(help="Directory or hub repository of a model to offer; repeatable."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen at.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen at.")] = None,
    initial_peers: InitialPeers = None,
    new_swarm: NewSwarm = False,
    identity: Identity = None,
    host_maddrs: HostMaddrs = None,
    announce_maddrs: AnnounceMaddrs = None,
    dht_prefix: Annotated[
        str | None, typer.Option(help="Name under which the model's servers meet.")
    ] = None,
    max_disk_gb: Annotated[
        float | None,
        typer.Option(help="Limit of all stored models of the hub; those used long ago make room."),
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            help="Keep conversations and limits there. A URL with a password belongs in "
            "SWARMGATE_REDIS_URL, where other users cannot read it."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Torch device of the local parts.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of one computation.")] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Copies of the embedding and the LM head.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes behind the port; more than one share a Redis.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="json or console.")] = None,
) -> None:
    """Offer models of a swarm over HTTP and WebSocket.

    Ctrl-C or SIGTERM drains it.

    Every option is also a setting SWARMGATE_*; the option wins. Without initial peers the gateway
    is the first peer of a new swarm. Prints one JSON line when it listens: ready, url, peer_id,
    maddrs.
    """
    peers = read_peers(initial_peers)
    if peers and new_swarm:
        raise OptionError("--new-swarm and --initial-peers exclude each other")

    given = _given(
        models=split_list(models) or None,
        host=host,
        port=port,
        initial_peers=() if new_swarm else peers or None,
        identity=identity,
        host_maddrs=split_list(host_maddrs) or None,
        announce_maddrs=split_list(announce_maddrs) or None,
        dht_prefix=dht_prefix,
        max_disk_gb=max_disk_gb,
        redis_url=redis_url,
        device=device,
        dtype=dtype,
        threads=threads,
        replicas=replicas,
        workers=workers,
        log_format=log_format,
    )
    _run(given)


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given; the others (None) are left to the environment."""
    return {name: value for name, value in options.items() if value is not None}


def _load(given: Mapping[str, Any]) -> "Settings":
    """Return the settings; what is wrong with an option is told by its name."""
    from app.settings import ENV_PREFIX, SettingsError, load_settings

    try:
        return load_settings(find_model=find_model, **given)
    except SettingsError as error:
        problems = error.problems
        for name in given:
            setting = re.compile(rf"{ENV_PREFIX}{name.upper()}\b")
            option = f"--{name.replace('_', '-')}"
            problems = tuple(setting.sub(option, problem) for problem in problems)
        raise SettingsError(problems) from error


def _run(given: dict[str, Any]) -> None:
    # Imported here: torch and the web framework take seconds, which `--help` need not wait for,
    # and the parent of workers needs neither.
    from swarmgate.service import run_until_signalled

    settings = _load(given)
    if settings.workers > 1:
        from swarmgate.workers.crew import run_workers

        service = run_workers(settings, {**given, "models": settings.models})
    else:
        from swarmgate.gateway_server import run_gateway

        service = run_gateway(settings)
    run_until_signalled(service, log_format=settings.log_format, log_level=settings.log_level)
