"""The whole product: Redis, a gateway and two servers, each a process."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.harness.programs import DEMO_MODEL, Program, free_port
from tests.harness.redis_server import RedisServer, redis_server

SPANS: Final = ("0:4", "4:8")
_START_S: Final = 40.0
_POLL_S: Final = 0.1


class Product:
    """Running processes. `servers` maps spans to programs; a killed one may be started again."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.redis: RedisServer = stack.enter_context(redis_server())
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.gateway: Program = stack.enter_context(
            Program(
                *("gateway", "--new-swarm", "--models", DEMO_MODEL, "--port", str(self.port)),
                *("--redis-url", self.redis.url, "--threads", "1"),
                is_prepared=True,
            )
        )
        facts = json.loads(self.gateway.wait_for('"ready": true', timeout_s=_START_S))
        self._maddr: str = facts["maddrs"][0]
        self.servers: dict[str, Program] = {}

    def start_server(self, span: str) -> None:
        """Start a server for `span`; `wait_ready` tells when it serves."""
        self.servers[span] = self._stack.enter_context(
            Program(
                *("serve", DEMO_MODEL, "--blocks", span, "--initial-peers", self._maddr),
                *("--threads", "1"),
                is_prepared=True,
            )
        )

    def kill_server(self, span: str) -> None:
        """End the server's own process with -9; what becomes of its daemon is its affair."""
        self.servers[span].send(signal.SIGKILL)

    def wait_health(self, *, is_ready: bool, timeout_s: float = _START_S) -> dict[str, Any]:
        """Wait until `/health/ready` says so; return what it says."""
        deadline = time.monotonic() + timeout_s
        status, body = self.get("/health/ready")
        while (status == 200) is not is_ready:
            assert time.monotonic() < deadline, f"/health/ready still answers {status}: {body}"
            time.sleep(_POLL_S)
            status, body = self.get("/health/ready")
        return dict(body)

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and JSON of a GET; status 0 when nobody answers."""
        return self._answer(Request(self.url + path))

    def post(self, path: str, body: object) -> tuple[int, Any]:
        """Return status and JSON of a POST of JSON."""
        headers = {"content-type": "application/json"}
        return self._answer(Request(self.url + path, json.dumps(body).encode(), headers))

    def _answer(self, request: Request) -> tuple[int, Any]:
        try:
            with urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)
        except URLError as error:
            return 0, str(error)


@contextmanager
def running_product() -> Iterator[Product]:
    """Run the product until the end of the block; it is ready when the block begins."""
    with ExitStack() as stack:
        product = Product(stack)
        for span in SPANS:
            product.start_server(span)
        product.wait_health(is_ready=True)
        yield product
