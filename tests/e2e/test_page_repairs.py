"""The chat page while connections break and servers leave: it says so, and the answer goes on."""

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.harness.product import Product, running_product

pytestmark = pytest.mark.timeout(120)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
LAST = ".exchange:last-child"
DONE = f'{LAST}[data-status="done"]'
NOTICE = f"{LAST} .notice"
QUESTION = "Tell me a story about a fox named Lily."
ANSWER_MS = 60_000


class FragileWire:
    """A TCP proxy in front of a port, whose connections can be cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections; new ones work."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def close(self) -> None:
        """Break everything, and take nothing new."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += (near, far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def fragile() -> Iterator[Product]:
    """A product of this module's own, because the tests break it."""
    with running_product() as running:
        yield running


@pytest.fixture
def wire(fragile: Product) -> Iterator[FragileWire]:
    """What lies between the page and the gateway."""
    wire = FragileWire(fragile.port)
    yield wire
    wire.close()


@pytest.fixture
def page(wire: FragileWire) -> Iterator[Page]:
    """The page, loaded over the wire, with a question that is being answered."""
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{wire.port}")
        page.get_by_label("Message").fill(QUESTION)
        expect(page.get_by_role("button", name="Send")).to_be_enabled()  # models are known
        page.keyboard.press("Enter")
        expect(page.locator(f"{LAST} .answer")).to_contain_text(
            re.compile(r"\w+ \w+"), timeout=ANSWER_MS
        )
        yield page
        browser.close()


def test_broken_connections_cost_no_word(page: Page, wire: FragileWire) -> None:
    """The page connects again by itself, twice, and the answer is whole."""
    for _ in range(2):
        wire.cut()
        before = page.locator(f"{LAST} .answer").inner_text()
        expect(page.locator(f"{LAST} .answer")).not_to_have_text(before, timeout=ANSWER_MS)

    expect(page.locator(DONE)).to_be_visible(timeout=ANSWER_MS)
    expect(page.locator(NOTICE)).to_be_hidden()
    answer = page.locator(f"{DONE} .answer").inner_text()
    assert len(answer.split()) > 20
    assert not re.search(r"\b(\w+ \w+ \w+) \1\b", answer), "no piece of it may come twice"


def test_missing_blocks_are_named_until_somebody_serves_them(
    page: Page, fragile: Product, tmp_path: Path
) -> None:
    """Instead of an error; then the answer goes on."""
    fragile.kill_server("4:8")

    expect(page.locator(NOTICE)).to_contain_text(
        re.compile("Waiting for blocks 4.7"), timeout=ANSWER_MS
    )
    page.screenshot(path=tmp_path / "waiting.png")
    fragile.start_server("4:8")

    expect(page.locator(DONE)).to_be_visible(timeout=ANSWER_MS)
    expect(page.locator(NOTICE)).to_be_hidden()
    with urlopen(f"{fragile.url}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert re.search(r'swarmgate_hops_lost_total\{model_name="demo",reason="\w+"\} [1-9]', metrics)
    assert re.search(r'swarmgate_blocks_wait_seconds_count\{model_name="demo"\} [1-9]', metrics)
