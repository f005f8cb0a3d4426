"""Outputs of a model that knows nothing match what they are constrained to."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.inference.requests import FinishReason, OutputConstraint
from app.structured.errors import GrammarTooLargeError, InvalidGrammarError
from swarm_client.generation.parameters import SamplingParameters
from tests.integration.app.inference.swarm import Swarm, collect, request_of, text_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 8},
        "rain": {"type": "boolean"},
        "degrees": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
    },
    "required": ["city", "rain", "degrees"],
    "additionalProperties": False,
}
CONSTRAINT = OutputConstraint("json_schema", json.dumps(SCHEMA))


def sampled(seed: int) -> SamplingParameters:
    return SamplingParameters(do_sample=True, temperature=1.5, seed=seed)


@pytest.mark.parametrize("seed", range(6))
async def test_every_whole_output_fits_its_schema(swarm: Swarm, seed: int) -> None:
    """Whatever the weights say; one that ends by its length is the beginning of one that fits."""
    conversation = await swarm.open(max_length=500)
    request = request_of((7, 8), 400, sampling=sampled(seed), constraint=CONSTRAINT)

    events = await collect(conversation, request)

    text = text_of(events)
    if events[-1].finish_reason is FinishReason.STOP:
        Draft202012Validator(SCHEMA).validate(json.loads(text))
    else:
        assert re.match(r'\s*\{\s*"city"', text)


async def test_an_output_that_is_too_short_is_cut_off(swarm: Swarm) -> None:
    """It ends by its length, and says so."""
    conversation = await swarm.open()

    events = await collect(conversation, request_of((7, 8), 4, constraint=CONSTRAINT))

    assert events[-1].finish_reason is FinishReason.LENGTH
    assert text_of(events).startswith("{")


async def test_whoever_goes_on_makes_the_same_output(swarm: Swarm) -> None:
    """The matcher is told the tokens that exist already."""
    constraint = OutputConstraint("regex", "([a-z]{3}-){3}[0-9]{4}")
    request = request_of((7, 8), 60, sampling=sampled(1), constraint=constraint)
    whole = [event.token_ids[0] for event in await collect(await swarm.open(), request)]

    rest = await collect(await swarm.open(), replace(request, produced_ids=tuple(whole[:7])))

    assert [event.token_ids[0] for event in rest] == whole[7:]


async def test_greedy_and_sampled_outputs_obey_alike(swarm: Swarm) -> None:
    """The likeliest allowed token is allowed."""
    constraint = OutputConstraint("choice", '["yes", "no", "maybe"]')

    for sampling in (SamplingParameters(), sampled(3)):
        request = request_of((7, 8), 30, sampling=sampling, constraint=constraint)
        text = text_of(await collect(await swarm.open(), request))
        assert text in ("yes", "no", "maybe")


@pytest.mark.parametrize(
    ("constraint", "error"),
    [
        (OutputConstraint("regex", "("), InvalidGrammarError),
        (OutputConstraint("regex", "a" * 10_000), GrammarTooLargeError),
    ],
)
async def test_a_bad_constraint_ends_the_generation(
    swarm: Swarm, constraint: OutputConstraint, error: type[Exception]
) -> None:
    """Before anything is sent to the swarm."""
    conversation = await swarm.open()

    with pytest.raises(error):
        await collect(conversation, request_of((7, 8), 4, constraint=constraint))
    assert conversation.position == 0
