"""Malformed WebSocket dialogues."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzzed_gateway import FuzzedGateway, num_cases
from tests.fuzz.web_sockets import Step, hold_dialogue, openings, steps

pytestmark = pytest.mark.timeout(600)


@settings(max_examples=num_cases(short=250, long=2000))
@given(opening=openings, rest=st.lists(steps, max_size=8))
def test_no_dialogue_crashes_the_gateway_or_keeps_anything(
    gateway: FuzzedGateway, opening: tuple[Step, ...], rest: list[Step]
) -> None:
    """Whatever comes: no traceback, no internal error, an end, and nothing left behind."""
    said = gateway.run(hold_dialogue(gateway.port, (*opening, *rest)))

    assert b"Traceback" not in said
    assert b"inside the gateway" not in said
    assert gateway.run(gateway.is_at_rest()), gateway.leftovers()
    assert gateway.crashes == []
