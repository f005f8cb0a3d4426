"""`GET /api/v1/swarm`: who serves what, as the gateway sees it now."""

from math import isfinite

from fastapi import APIRouter, Request, Response

from app.api.replies import json_response
from app.context import context_of
from app.serving import OfferedModel
from swarm_client.directory import ServerView

router = APIRouter()


@router.get("/api/v1/swarm")
async def show_swarm(request: Request) -> Response:
    """Return our own addresses, and each model with its servers."""
    gateway = context_of(request.scope).gateway
    return json_response(
        {
            "peer_id": gateway.node.peer_id,
            "maddrs": list(gateway.node.maddrs),
            "models": [_describe(model) for model in gateway.engine.models.values()],
        }
    )


def _describe(model: OfferedModel) -> dict[str, object]:
    missing = model.remote.missing_blocks()
    return {
        "id": model.id,
        "is_demo": model.is_demo,
        "num_blocks": model.facts.num_blocks,
        "dht_prefix": model.facts.dht_prefix,
        "is_reachable": not missing,
        "missing_blocks": [[blocks.start, blocks.end] for blocks in missing],
        "servers": [_describe_server(server) for server in model.remote.servers()],
    }


def _describe_server(server: ServerView) -> dict[str, object]:
    ping_s = server.ping_s
    return {
        "peer_id": server.peer,
        "public_name": server.public_name,
        "state": server.state.name.lower(),
        "blocks": [server.blocks.start, server.blocks.end],
        "throughput": server.throughput,
        "version": server.version,
        "dtype": server.dtype,
        "ping_ms": round(ping_s * 1000, 2) if ping_s is not None and isfinite(ping_s) else None,
        "cache_tokens_left": _session_tokens_left(server),
        "is_banned": server.is_banned,
    }


def _session_tokens_left(server: ServerView) -> int | None:
    """Return how many tokens fit through all of the server's blocks.

    Its record counts the keys and the values of each block apart (PETALS_PROTOCOL §5.2).
    """
    left = server.cache_tokens_left
    return None if left is None else left // (2 * max(1, len(server.blocks)))
