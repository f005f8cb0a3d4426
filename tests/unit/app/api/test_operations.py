"""Health, metrics and the swarm's map."""

import httpx2
from pydantic import SecretStr

from app.settings import Settings
from app.state.redis import RedisStateStore
from swarm_protocol.identifiers import BlockRange
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app


async def test_live_says_nothing_of_the_swarm() -> None:
    """The process runs, and that is all."""
    engine = ScriptedEngine()
    engine.demo.canary.ok = False
    async with http_client(engine, Settings(api_keys=(SecretStr("correct-key"),))) as client:
        assert (await client.get("/health/live")).status_code == 200


async def test_ready_when_a_token_of_each_model_came_back_lately() -> None:
    """Readiness is a measured fact."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.get("/health/ready")

    assert answer.status_code == 200
    assert answer.json()["ready"] is True


async def test_not_ready_says_why() -> None:
    """Each model is named."""
    engine = ScriptedEngine()
    engine.demo.canary.ok, engine.demo.canary.reason = False, "no_route"
    async with http_client(engine) as client:
        answer = await client.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["model demo: no token came back lately (no_route)"]


async def test_a_lost_store_is_a_warning_and_takes_no_gateway_out() -> None:
    """All gateways share it, and each can go on by the policy of each feature."""
    async with http_client(
        ScriptedEngine(), store=RedisStateStore("redis://127.0.0.1:1")
    ) as client:
        answer = await client.get("/health/ready")
        metrics = (await client.get("/metrics")).text

    assert answer.status_code == 200
    assert answer.json()["reasons"] == []
    assert answer.json()["warnings"] == ["the state store does not answer"]
    assert "swarmgate_state_store_ok 0.0" in metrics


async def test_not_ready_while_blocks_are_missing() -> None:
    """At once, although the last canary token is young; the gaps are named."""
    engine = ScriptedEngine()
    engine.demo.remote.gaps = (BlockRange(2, 3), BlockRange(4, 8))
    async with http_client(engine) as client:
        answer = await client.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["model demo: nobody serves blocks 2:3, 4:8"]
    assert answer.json()["models"]["demo"]["missing_blocks"] == [[2, 3], [4, 8]]


async def test_draining_gateway_is_not_ready() -> None:
    """A load balancer looks elsewhere then."""
    async with (
        running_app(ScriptedEngine()) as app,
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://gateway"
        ) as client,
    ):
        await app.state.context.admission.drain(0)

        answer = await client.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["the gateway is about to stop"]


async def test_swarm_shows_models_and_their_servers() -> None:
    """As the page and the command line read it."""
    engine = ScriptedEngine()
    engine.demo.remote.gaps = (BlockRange(4, 8),)
    async with http_client(engine) as client:
        swarm = (await client.get("/api/v1/swarm")).json()

    (model,) = swarm["models"]
    assert swarm["peer_id"] == "QmGateway"
    assert (model["is_reachable"], model["missing_blocks"]) == (False, [[4, 8]])
    assert model["servers"] == [
        {
            "peer_id": "QmServer",
            "public_name": None,
            "state": "online",
            "blocks": [0, 8],
            "throughput": 1.0,
            "version": "swarmgate/0.1.0",
            "dtype": "float32",
            "ping_ms": 0.4,
            "cache_tokens_left": 62,  # 1000 counts keys and values of eight blocks
            "is_banned": False,
        }
    ]


async def test_metrics_count_requests_by_surface_and_outcome() -> None:
    """Names are vLLM's where the meaning is."""
    fields = {"model": "demo", "inputs": "Hi", "max_new_tokens": 3}
    async with http_client(ScriptedEngine()) as client:
        await client.post("/api/v1/generate", data=fields)
        await client.post("/api/v1/generate", data={})
        text = (await client.get("/metrics")).text

    assert 'swarmgate_requests_total{outcome="length",surface="petals_v1"} 1.0' in text
    assert 'swarmgate_requests_total{outcome="refused",surface="petals_v1"} 1.0' in text
    assert 'swarmgate_refused_total{code="bad_request"} 1.0' in text
    assert 'vllm:generation_tokens_total{model_name="demo"} 3.0' in text
    assert 'vllm:num_requests_running{model_name="demo"} 0.0' in text


async def test_all_but_the_public_routes_need_the_key() -> None:
    """Unknown ones, too: nothing is told about what exists."""
    closed = ("/metrics", "/api/v1/swarm", "/v1/models", "/v1/nothing", "/nothing")
    async with http_client(
        ScriptedEngine(), Settings(api_keys=(SecretStr("correct-key"),))
    ) as client:
        statuses = {path: (await client.get(path)).status_code for path in closed}
        answer = await client.get("/v1/models")

    assert set(statuses.values()) == {401}
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["type"] == "authentication_error"
