"""Trace spans on their way to a collector, over a real socket."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread

import httpx2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.main import create_app
from app.settings import Settings
from app.settings.tracing import TracingSettings
from tests.harness.scripted_engine import ScriptedEngine, scripted_gateway

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}


@contextmanager
def _collector() -> Iterator[tuple[str, "Queue[tuple[str, bytes]]"]]:
    """Run a collector that keeps what it is sent; yield its address and the posts."""
    posts: Queue[tuple[str, bytes]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.put((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", posts
        server.shutdown()
        thread.join()


async def _ask(tracing: TracingSettings) -> int:
    app = create_app(Settings(tracing=tracing), gateway=scripted_gateway(ScriptedEngine("ab")))
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        return (await client.post("/v1/chat/completions", json=CHAT)).status_code


async def test_collector_gets_all_spans_before_the_gateway_ends() -> None:
    """OTLP over HTTP, as protobuf, at the standard path."""
    with _collector() as (endpoint, posts):
        status = await _ask(TracingSettings(endpoint=endpoint))
        path, body = posts.get_nowait()

    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    services = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (status, path) == (200, "/v1/traces")
    assert services["service.name"] == "swarmgate"
    assert {"POST /v1/chat/completions", "generation", "prefill", "hop 0:8", "head"} <= set(names)


async def test_collector_that_is_away_is_no_ones_trouble() -> None:
    """Requests are answered, and the gateway still ends."""
    assert await _ask(TracingSettings(endpoint="http://127.0.0.1:1")) == 200


async def test_share_of_requests_is_not_the_callers_to_decide() -> None:
    """With a share of nothing, nothing is sent."""
    with _collector() as (endpoint, posts):
        await _ask(TracingSettings(endpoint=endpoint, sample_ratio=0))

        assert posts.empty()


def test_nothing_is_traced_by_default() -> None:
    """A gateway without an endpoint does not even load what would send spans."""
    source = (
        "import sys; from app.main import create_app; from app.settings import Settings; "
        "create_app(Settings()); print(any('exporter.otlp' in name for name in sys.modules))"
    )
    command = [sys.executable, "-W", "ignore", "-c", source]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "False"
