"""The admin API of keys, over a file."""

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from app.settings import Settings
from app.settings.keys import KeySettings
from tests.harness.scripted_engine import ScriptedEngine, http_client

KEYS = "/api/v1/admin/keys"
ADMIN = {"authorization": "Bearer master-key"}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    """A gateway whose keys are in a file, and its administrator."""
    settings = Settings(
        admin_keys=(SecretStr("master-key"),),
        keys=KeySettings(file=tmp_path / "keys.json", cache_s=0),
    )
    async with http_client(ScriptedEngine(), settings) as client:
        client.headers.update(ADMIN)
        yield client


async def _status(client: httpx2.AsyncClient, key: str, path: str = "/v1/models") -> int:
    answer = await client.get(path, headers={"authorization": f"Bearer {key}"})
    return answer.status_code


async def test_key_opens_from_the_moment_it_is_made_until_it_is_revoked(
    client: httpx2.AsyncClient,
) -> None:
    """No gateway is restarted for it."""
    made = await client.post(KEYS, json={"name": "app"})
    new = made.json()

    assert made.status_code == 201
    assert await _status(client, new["key"]) == 200
    assert (await client.delete(f"{KEYS}/{new['id']}")).json()["revoked_at"]
    assert await _status(client, new["key"]) == 401


async def test_rotated_key_opens_with_its_new_secret_only(client: httpx2.AsyncClient) -> None:
    """Unless a grace is asked for."""
    old = (await client.post(KEYS, json={"name": "app"})).json()

    new = (await client.post(f"{KEYS}/{old['id']}/rotate")).json()

    assert new["id"] == old["id"]
    assert await _status(client, old["key"]) == 401
    assert await _status(client, new["key"]) == 200


async def test_list_has_no_secrets(client: httpx2.AsyncClient) -> None:
    """Neither texts nor hashes."""
    new = (await client.post(KEYS, json={"name": "app"})).json()

    listed = await client.get(KEYS)

    assert listed.json() == {"keys": [{name: new[name] for name in new if name != "key"}]}
    assert (await client.get(f"{KEYS}/{new['id']}")).json() == listed.json()["keys"][0]


async def test_key_confined_to_one_surface_and_model(client: httpx2.AsyncClient) -> None:
    """What it may not use is named, with status 403."""
    scopes = {"models": ["other"], "surfaces": ["openai"]}
    key = (await client.post(KEYS, json={"name": "app", "scopes": scopes})).json()["key"]
    headers = {"authorization": f"Bearer {key}"}

    metrics = await client.get("/metrics", headers=headers)
    body = {"model": "demo", "prompt": "a", "max_tokens": 1}
    answer = await client.post("/v1/completions", json=body, headers=headers)

    assert (metrics.status_code, metrics.json()["error"]["code"]) == (403, "out_of_scope")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "out_of_scope")
    assert await _status(client, key, KEYS) == 403
    assert (await client.get("/v1/models", headers=headers)).json()["data"] == []
    assert await _status(client, key, "/v1/models/demo") == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a", "limits": {"weight": 0}},
        {"name": "a", "scopes": {"surfaces": ["nope"]}},
        {"name": "a", "more": 1},
    ],
)
async def test_draft_that_does_not_fit_is_refused(
    client: httpx2.AsyncClient, body: dict[str, object]
) -> None:
    """With the place of the problem."""
    answer = await client.post(KEYS, json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


async def test_unknown_id_is_not_found(client: httpx2.AsyncClient) -> None:
    """On every route."""
    answers = [
        await client.get(f"{KEYS}/nope"),
        await client.delete(f"{KEYS}/nope"),
        await client.post(f"{KEYS}/nope/rotate"),
    ]

    assert {answer.json()["error"]["code"] for answer in answers} == {"key_not_found"}


async def test_gateway_without_a_store_says_so() -> None:
    """It has only the keys of its settings."""
    settings = Settings(admin_keys=(SecretStr("master-key"),))
    async with http_client(ScriptedEngine(), settings) as client:
        answer = await client.post(KEYS, json={"name": "app"}, headers=ADMIN)

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "keys_not_stored")
