"""Loggers of the library packages."""

import logging
import subprocess
import sys

import pytest

from swarm_protocol.logs import get_logger

PROGRAM = """
from swarm_protocol.logs import get_logger
log = get_logger("swarm_client.sample")
log.debug("step_done", took_ms=1.0)
log.info("span_replayed", peer="Qm")
"""


def test_a_program_that_sets_no_logging_up_sees_nothing() -> None:
    """Neither on stdout nor on stderr, as with any other library."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True)

    assert (run.stdout, run.stderr) == (b"", b"")


def test_fields_are_attributes_of_the_record(caplog: pytest.LogCaptureFixture) -> None:
    """The program's own handlers may render them."""
    with caplog.at_level(logging.INFO):
        get_logger("swarm_client.sample").info("span_replayed", peer="Qm")

    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("swarm_client.sample", "span_replayed")
    assert vars(record)["peer"] == "Qm"
