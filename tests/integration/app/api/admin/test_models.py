"""`/api/v1/admin/models` on a real engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.settings import Settings
from tests.harness.scripted_engine import ScriptedEngine, http_client
from tests.harness.tiny_models import save_tiny_llama
from tests.integration.app.api.gateway import RunningGateway, gateway_of
from tests.integration.app.inference.swarm import until

ADMIN = {"authorization": "Bearer an-admin-key"}
SETTINGS: dict[str, Any] = {"api_keys": ("a-plain-key",), "admin_keys": ("an-admin-key",)}
PATH = "/api/v1/admin/models"


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second model."""
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "other")


@asynccontextmanager
async def administered(
    model: Path,
) -> AsyncIterator[tuple[RunningGateway, httpx2.AsyncClient]]:
    async with (
        gateway_of(model, Settings(**SETTINGS)) as gateway,
        gateway.client() as client,
    ):
        client.headers.update(ADMIN)
        yield gateway, client


async def test_a_model_comes_and_goes(tiny_llama: Path, other_model: Path) -> None:
    """Callers see it from the answer on, and no more from the other answer on."""
    async with administered(tiny_llama) as (gateway, client):
        added = await client.post(PATH, json={"source": str(other_model)})
        listed = await client.get(PATH)
        offered = await client.get("/v1/models")
        removed = await client.delete(f"{PATH}/other")
        refused = await client.get("/v1/models/other")
        await until(lambda: gateway.swarm.engine.memory.bytes_of("other") == 0)

    assert added.status_code == 201
    facts = added.json()
    assert facts["id"] == "other"
    assert facts["memory_bytes"] > 0
    assert [model["id"] for model in listed.json()["models"]] == ["tiny-llama", "other"]
    assert [model["id"] for model in offered.json()["data"]] == ["tiny-llama", "other"]
    assert (removed.status_code, removed.json()["drain_s"]) == (202, 5)
    assert refused.status_code == 404


async def test_what_cannot_be_offered_is_refused_with_a_reason(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """And changes nothing."""
    async with administered(tiny_llama) as (_, client):
        twice = await client.post(PATH, json={"source": str(tiny_llama)})
        empty = await client.post(PATH, json={"source": str(tmp_path)})
        unknown = await client.post(PATH, json={"path": "models/demo"})
        gone = await client.delete(f"{PATH}/nobody")
        listed = await client.get(PATH)

    answers = [(answer.status_code, answer.json()["error"]["code"]) for answer in (twice, empty)]
    assert answers == [(409, "model_exists"), (422, "bad_checkpoint")]
    assert unknown.status_code == 400
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "unknown_model")
    assert [model["id"] for model in listed.json()["models"]] == ["tiny-llama"]


async def test_only_administrators_change_models(tiny_llama: Path, other_model: Path) -> None:
    """Whoever may generate may not."""
    async with administered(tiny_llama) as (_, client):
        client.headers["authorization"] = "Bearer a-plain-key"
        answers = [
            await client.get(PATH),
            await client.post(PATH, json={"source": str(other_model)}),
            await client.delete(f"{PATH}/tiny-llama"),
        ]

    assert [answer.status_code for answer in answers] == [403, 403, 403]


async def test_a_gateway_on_a_stub_has_fixed_models() -> None:
    """A clear refusal, not a crash."""
    async with http_client(ScriptedEngine(), Settings(**SETTINGS)) as client:
        answer = await client.get(PATH, headers=ADMIN)

    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "models_fixed")
