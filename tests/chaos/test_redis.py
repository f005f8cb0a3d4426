"""Redis ends and comes back while an answer is being streamed."""

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from urllib.request import Request, urlopen

import pytest

from tests.harness.product import Product, running_product

pytestmark = pytest.mark.timeout(120)

STORY = "<|user|>Tell me a story.<|end|><|assistant|>"
COMPLETION = {"model": "demo", "prompt": STORY, "stream": True, "temperature": 0, "max_tokens": 400}


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with running_product() as running:
        yield running


def stream(product: Product) -> Generator[str, None, None]:
    """Yield the pieces of a completion as they come; an error among them fails the test."""
    headers = {"content-type": "application/json"}
    request = Request(f"{product.url}/v1/completions", json.dumps(COMPLETION).encode(), headers)
    with urlopen(request, timeout=30) as response:
        for line in response:
            field, _, data = line.decode().strip().partition(": ")
            if field == "data" and data != "[DONE]":
                event = json.loads(data)
                assert "choices" in event, event
                yield event["choices"][0]["text"]


def test_an_answer_goes_on_while_redis_is_away(product: Product) -> None:
    """Its tokens come from the swarm; what Redis is needed for is done when it is there again."""
    undisturbed = "".join(stream(product))

    with closing(stream(product)) as pieces:
        text = "".join(next(pieces) for _ in range(10))
        product.redis.kill()
        text += "".join(next(pieces) for _ in range(10))
        product.redis.restart()
        text += "".join(pieces)

    assert text == undisturbed
    assert len(text) > 100
    product.wait_health(is_ready=True)
