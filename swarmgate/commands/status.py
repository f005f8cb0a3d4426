"""`swarmgate status`: what a gateway sees of its swarm."""

import json
from typing import Any

import typer

from swarmgate.commands.options import ApiKey, AsJson, Url
from swarmgate.gateway_client import GatewayClient


def status(
    url: Url = "http://127.0.0.1:8000", api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Show a gateway's models and who holds their blocks."""
    swarm = GatewayClient(url, api_key).get("/api/v1/swarm")
    typer.echo(json.dumps(swarm) if as_json else "\n".join(_lines(swarm)))


def _lines(swarm: dict[str, Any]) -> list[str]:
    lines = [f"gateway {swarm['peer_id']}"]
    for model in swarm["models"]:
        missing = ", ".join(f"{start}:{end}" for start, end in model["missing_blocks"])
        state = "reachable" if model["is_reachable"] else f"no server holds blocks {missing}"
        lines.append(f"{model['id']}: {model['num_blocks']} blocks, {state}")
        lines.extend(_server_line(server) for server in model["servers"])
    return lines


def _server_line(server: dict[str, Any]) -> str:
    start, end = server["blocks"]
    state = "banned" if server["is_banned"] else server["state"]
    name = server["public_name"] or ""
    return f"  {start:>3}:{end:<3} {state:8} {server['peer_id']} {name}".rstrip()
