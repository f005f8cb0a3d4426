"""The chat page in a real browser, on the running product."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.harness.product import Product

pytestmark = pytest.mark.timeout(90)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
LAST = ".exchange:last-child"
DONE = f'{LAST}[data-status="done"]'
ANSWER_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, product: Product) -> Iterator[Page]:
    """The page, loaded; at its end nothing may have been blocked or have failed."""
    complaints: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(product.url)
    yield page
    page.close()
    assert complaints == []


def ask(page: Page, question: str) -> None:
    before = page.locator(".exchange").count()
    page.get_by_label("Message").fill(question)
    page.keyboard.press("Enter")
    expect(page.locator(".exchange")).to_have_count(before + 1)


def test_question_by_keyboard_gets_a_streamed_answer(page: Page) -> None:
    """Typing and Enter are enough; the answer, its speed, then the focus is back."""
    ask(page, "What is the capital of Japan?")

    expect(page.locator(f"{DONE} .answer")).to_contain_text("Tokyo", timeout=ANSWER_MS)
    expect(page.locator(f"{LAST} .speed")).to_contain_text(re.compile(r"\d.*tokens/s"))
    expect(page.get_by_label("Message")).to_be_focused()


def test_second_question_knows_the_first(page: Page) -> None:
    """The page sends the conversation so far."""
    ask(page, "My name is Zoe.")
    expect(page.locator(DONE)).to_be_visible(timeout=ANSWER_MS)
    ask(page, "What is my name?")

    expect(page.locator(f"{DONE} .answer")).to_contain_text("Zoe", timeout=ANSWER_MS)


def test_stop_keeps_what_came_and_frees_the_composer(page: Page) -> None:
    """Escape is the stop button by keyboard."""
    ask(page, "Tell me a story about a fox named Lily.")
    expect(page.locator(f"{LAST} .answer")).to_contain_text(re.compile(r"\w"), timeout=ANSWER_MS)
    page.keyboard.press("Escape")

    expect(page.locator(LAST)).to_have_attribute("data-status", re.compile("stopped|done"))
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_new_chat_forgets(page: Page) -> None:
    """The conversation is gone and the suggestions are back."""
    ask(page, "Hello!")
    expect(page.locator(DONE)).to_be_visible(timeout=ANSWER_MS)

    page.get_by_role("button", name="New chat").click()

    expect(page.locator(".exchange")).to_have_count(0)
    expect(page.locator("#welcome")).to_be_visible()


def test_page_names_the_demo_model_and_shows_the_swarm(page: Page) -> None:
    """Nobody shall take it for more than it is."""
    expect(page.locator("#about-model-name")).to_contain_text(re.compile("demo", re.IGNORECASE))
    expect(page.locator("#swarm-status")).to_have_attribute("data-level", "good")

    page.locator("#swarm-status").click()

    expect(page.locator("#swarm-servers > li")).to_have_count(2)


def test_phone_in_the_dark(browser: Browser, product: Product, tmp_path: Path) -> None:
    """360 pixels wide, nothing sticks out, and the dark colours are used."""
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.goto(product.url)
    ask(page, "Tell me a story about a fox named Lily.")
    expect(page.locator(DONE)).to_be_visible(timeout=ANSWER_MS)

    width = page.evaluate("document.documentElement.scrollWidth")
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.screenshot(path=tmp_path / "phone.png")
    page.close()

    assert width <= 360
    channels = [int(channel) for channel in re.findall(r"\d+", background)[:3]]
    assert max(channels) < 80
