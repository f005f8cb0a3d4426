"""Sampling parameters refuse what is out of range."""

from math import inf, nan
from typing import Any

import pytest

from swarm_client.errors import InvalidParametersError
from swarm_client.generation.parameters import SamplingParameters


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0),
        ("temperature", -1.0),
        ("temperature", nan),
        ("temperature", inf),
        ("temperature", "1"),
        ("temperature", True),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_k", 10**9),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0),
        ("repetition_penalty", 10**400),
        ("seed", 2**64),
        ("seed", 1.0),
        ("do_sample", 1),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    """The message names the field, what it may be, and what came."""
    with pytest.raises(InvalidParametersError, match=field) as refused:
        SamplingParameters(**{field: value})

    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "value", "bounds"),
    [
        ("presence_penalty", 3, "a number from -2 to 2, got 3"),
        ("logit_bias", ((1, 101.0),), "a number from -100 to 100, got 101.0"),
        ("top_p", 0, "a number above 0 and at most 1, got 0"),
        ("top_k", -1, "a whole number from 0 to"),
    ],
)
def test_the_bounds_are_told(field: str, value: Any, bounds: str) -> None:
    """In words that say whether they may be reached."""
    with pytest.raises(InvalidParametersError, match=bounds):
        SamplingParameters(**{field: value})


def test_the_ends_of_the_ranges_are_legal() -> None:
    """Bounds are inclusive where the docstring says so."""
    SamplingParameters(top_k=0, top_p=1, min_p=0, seed=-1)
    SamplingParameters(top_k=1_000_000, min_p=1, seed=2**64 - 1)
