"""The chat page in a real browser, on the running product."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.harness.product import Product

pytestmark = pytest.mark.timeout(90)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
LAST = ".exchange:last-child"
DONE = f'{LAST}[data-status="done"]'
ANSWER_MS = 30_000
MARKDOWN = """# Title
Some **bold** text, `code`, [a page](https://x.org/) and [a trap](javascript:alert(1)).

- one
- two <b>x</b> <img src=x onerror=alert(1)>
- three
  ```python
  def f(x):  # a comment that is very long, much longer than a line of the page or of a phone
      return "<script>alert(1)</script>"
  ```

| a | b |
|---|--:|
| 1 | 2 |

![picture](https://x.org/cat.png)
"""
CODE = """\
def f(x):  # a comment that is very long, much longer than a line of the page or of a phone
    return "<script>alert(1)</script>\""""


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
    expect(page.get_by_label("Send")).to_be_enabled()  # the page knows its models
    page.keyboard.press("Enter")
    expect(page.locator(".exchange")).to_have_count(before + 1)


def right_edge(place: Locator) -> float:
    """Return where an element ends, in pixels from the left."""
    box = place.bounding_box()
    assert box is not None
    return box["x"] + box["width"]


def test_question_by_keyboard_gets_a_streamed_answer(page: Page) -> None:
    """Typing and Enter are enough; the answer, its length, then the focus is back."""
    ask(page, "What is the capital of Japan?")

    expect(page.locator(f"{DONE} .answer")).to_contain_text("Tokyo", timeout=ANSWER_MS)
    expect(page.locator(f"{LAST} .speed")).to_contain_text(re.compile(r"\d.*tokens"))
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


def test_an_answer_goes_on_where_the_page_was_loaded_again(page: Page) -> None:
    """What was there stays, the rest comes once, and it ends as any answer does."""
    ask(page, "Tell me a story about a fox named Lily.")
    answer = page.locator(f"{LAST} .answer")
    expect(answer).to_contain_text(re.compile(r"\w \w"), timeout=ANSWER_MS)
    begun = answer.inner_text()
    with page.expect_request("**/api/v1/streams/*"):
        page.reload()

    expect(page.locator(DONE)).to_be_visible(timeout=ANSWER_MS)
    text = answer.inner_text()
    assert text.startswith(begun)
    assert len(text) > len(begun)
    assert text.count(begun) == 1
    expect(page.locator(f"{LAST} .speed")).to_contain_text(re.compile(r"\d.*tokens/s"))


def test_the_swarm_has_an_address_of_its_own(page: Page, product: Product) -> None:
    """The same page, with its servers unfolded."""
    page.goto(f"{product.url}/swarm")

    expect(page.locator("#swarm-servers > li")).to_have_count(2)


def test_markdown_becomes_elements_and_html_stays_text(page: Page) -> None:
    """Code can be copied, links lead to the web only, and pictures are not loaded."""
    frames = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in MARKDOWN]
    frames.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events = [f"data: {json.dumps(frame)}\n\n" for frame in frames]
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            body="".join([*events, "data: [DONE]\n\n"]), content_type="text/event-stream"
        ),
    )

    ask(page, "Show me.")

    answer = page.locator(f"{DONE} .answer")
    expect(answer.locator("h3")).to_have_text("Title")
    expect(answer.locator("strong")).to_have_text("bold")
    expect(answer.locator("li")).to_have_text(
        ["one", "two <b>x</b> <img src=x onerror=alert(1)>", re.compile("^three")]
    )
    expect(answer.locator("td")).to_have_text(["1", "2"])
    expect(answer.locator("pre")).to_have_text(CODE)
    expect(answer.get_by_role("link")).to_have_text(["a page", "picture"])
    expect(answer.get_by_role("button", name="Copy")).to_be_visible()
    expect(answer.locator("img, script, b")).to_have_count(0)
    assert right_edge(answer.locator(".code")) <= right_edge(answer)


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
