"""Requests by our own OpenAPI document, and against it."""

import asyncio
from typing import Any  # schemathesis' own kind of operation

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from app.api.openapi.document import openapi_document
from tests.fuzz.fuzzed_gateway import MAX_STEP_S, FuzzedGateway, num_cases

pytestmark = pytest.mark.timeout(900)

DESCRIBED = schemathesis.openapi.from_dict(openapi_document())
CASES = st.one_of(
    DESCRIBED.as_strategy(GenerationMode.POSITIVE),
    DESCRIBED.as_strategy(GenerationMode.NEGATIVE),
)


@settings(
    max_examples=num_cases(short=200, long=5000),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(case=CASES)
def test_no_request_crashes_the_gateway_or_keeps_anything(
    gateway: FuzzedGateway, case: Case[Any]
) -> None:
    """Whatever comes: an answer that is no 500, no traceback, and nothing left behind."""
    answer = gateway.run(
        asyncio.to_thread(
            case.call,
            base_url=f"http://127.0.0.1:{gateway.port}",
            headers={"connection": "close"},
            timeout=MAX_STEP_S,
        )
    )

    assert answer.status_code < 500 or answer.status_code == 503, answer.content
    assert b"Traceback" not in answer.content
    assert gateway.run(gateway.is_at_rest()), gateway.leftovers()
    assert gateway.crashes == []
