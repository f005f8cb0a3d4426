"""What the log tells of sessions that have ended."""

import logging

import pytest

from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_server.handlers.session_ends import log_session_end


@pytest.mark.parametrize(
    ("num_rows", "num_tokens", "level"),
    [
        (1, 0, logging.DEBUG),
        (1, 1, logging.DEBUG),
        (1, 2, logging.INFO),
        (2, 1, logging.INFO),
    ],
)
def test_only_sessions_that_ran_more_than_a_token_are_told_at_info(
    caplog: pytest.LogCaptureFixture, num_rows: int, num_tokens: int, level: int
) -> None:
    """The canaries of a gateway run one."""
    with caplog.at_level(logging.DEBUG):
        log_session_end(
            PeerId("gateway"), BlockRange(0, 4), num_rows=num_rows, num_tokens=num_tokens
        )

    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, "session_ended")
    assert (record.__dict__["blocks"], record.__dict__["num_tokens"]) == ("0:4", num_tokens)
