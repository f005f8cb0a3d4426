"""`swarmgate keys`: make, list, revoke and rotate the API keys of gateways.

It works on the store itself, Redis or a file, whether a gateway runs or not.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from swarmgate.commands.options import AsJson, split_list, wrong_options

if TYPE_CHECKING:
    from app.keys.registry import KeyRegistry

keys = typer.Typer(
    help="Make, list, revoke and rotate API keys. Only hashes are stored.",
    no_args_is_help=True,
    add_completion=False,
)
Result = TypeVar("Result")

RedisUrl = Annotated[
    str | None,
    typer.Option(
        envvar="SWARMGATE_REDIS_URL",
        show_envvar=True,
        help="Where the gateways keep keys. A URL with a password belongs in the variable.",
    ),
]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        envvar="SWARMGATE_KEYS__FILE",
        show_envvar=True,
        dir_okay=False,
        help="File where a gateway keeps keys; it wins over Redis.",
    ),
]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="As `swarmgate keys list` shows it.")]
Names = Annotated[list[str] | None, typer.Option(help="Repeatable; none: all.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Unset: as the gateway's settings say.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.")],
    models: Names = None,
    surfaces: Annotated[
        list[str] | None,
        typer.Option(help="openai, anthropic, petals, tokens, status; repeatable; none: all."),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It opens the admin API, too.")] = False,
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
    max_streams: Limit = None,
    max_connections: Limit = None,
    monthly_tokens: Limit = None,
    weight: Annotated[float, typer.Option(help="Share of the slots when requests wait.")] = 1.0,
    expires_in_days: Annotated[
        float | None, typer.Option(min=0, max=3660, help="Unset: it does not expire.")
    ] = None,
    redis_url: RedisUrl = None,
    file: KeysFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it; it cannot be shown again."""
    expires_in_s = None if expires_in_days is None else max(1, round(expires_in_days * 86_400))
    values = {
        "name": name,
        "expires_in_s": expires_in_s,
        "scopes": {
            "models": split_list(models),
            "surfaces": split_list(surfaces),
            "is_admin": admin,
        },
        "limits": {
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "max_streams": max_streams,
            "max_connections": max_connections,
            "monthly_tokens": monthly_tokens,
            "weight": weight,
        },
    }
    from app.keys.facts import new_key_facts

    draft = _draft(values)
    new = _in_store(redis_url, file, lambda registry: registry.create(draft))
    typer.echo(json.dumps(new_key_facts(new)) if as_json else new.text)


@keys.command("list")
def list_keys(redis_url: RedisUrl = None, file: KeysFile = None, as_json: AsJson = False) -> None:
    """Show all keys, oldest first, without their secrets."""
    from app.keys.facts import key_facts

    records = _in_store(redis_url, file, lambda registry: registry.find_all())
    facts = [key_facts(record) for record in records]
    typer.echo(json.dumps({"keys": facts}) if as_json else "\n".join(map(_line, facts)))


@keys.command()
def revoke(
    key_id: KeyId, redis_url: RedisUrl = None, file: KeysFile = None, as_json: AsJson = False
) -> None:
    """End a key. Gateways notice within SWARMGATE_KEYS__CACHE_S seconds."""
    from app.keys.facts import key_facts

    facts = key_facts(_in_store(redis_url, file, lambda registry: registry.revoke(key_id)))
    typer.echo(json.dumps(facts) if as_json else _line(facts))


@keys.command()
def rotate(
    key_id: KeyId,
    grace_s: Annotated[
        int, typer.Option(min=0, max=2_592_000, help="How long the old secret still opens.")
    ] = 0,
    redis_url: RedisUrl = None,
    file: KeysFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret and print it; all else stays."""
    from app.keys.facts import new_key_facts

    new = _in_store(redis_url, file, lambda registry: registry.rotate(key_id, grace_s=grace_s))
    typer.echo(json.dumps(new_key_facts(new)) if as_json else new.text)


def _in_store(
    redis_url: str | None,
    file: Path | None,
    work: "Callable[[KeyRegistry], Awaitable[Result]]",
) -> Result:
    """Open the store, do the work and close it."""
    from app.keys.errors import KeysNotStoredError
    from app.keys.registry import KeyRegistry
    from app.keys.store import open_key_store

    async def run() -> Result:
        store = open_key_store(redis_url, file)
        if store is None:
            raise KeysNotStoredError
        try:
            return await work(KeyRegistry(store))
        finally:
            await store.close()

    return asyncio.run(run())


def _draft(values: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from app.keys.registry import KeyDraft

    try:
        return KeyDraft.model_validate(values)
    except ValidationError as error:
        raise wrong_options(error, argument="name") from error


def _line(facts: dict[str, Any]) -> str:
    """Return `id, state, name, scopes`."""
    scopes = facts["scopes"]
    parts = [facts["id"], f"{_state(facts):8}", facts["name"]]
    parts += [f"{kind}={','.join(scopes[kind])}" for kind in ("models", "surfaces") if scopes[kind]]
    parts += ["admin"] * scopes["is_admin"]
    return "  ".join(parts)


def _state(facts: dict[str, Any]) -> str:
    if facts["revoked_at"] is not None:
        return "revoked"
    expires_at = facts["expires_at"]
    return "expired" if expires_at is not None and expires_at <= time.time() else "live"
