"""Errors of sessions, as clients are told of them."""

from swarm_protocol.dialect import Failure
from swarm_protocol.dialect.fields import Fact
from swarm_protocol.errors import SwarmError
from swarm_protocol.logs import get_logger
from swarm_server.errors import StepFailedError

log = get_logger(__name__)


def describe_failure(session_id: int, error: SwarmError) -> Failure:
    """Return what a client is told: code, text, and as facts the error's own attributes."""
    facts = {name: fact for name, fact in vars(error).items() if isinstance(fact, Fact)}
    return Failure(session_id, error.code, str(error), error.retryable, facts)


def presentable(error: BaseException) -> SwarmError:
    """Return an error that may be told: a fault of ours is logged, and told as such."""
    if isinstance(error, SwarmError):
        return error
    log.error("session_crashed", error=type(error).__name__, exc_info=error)
    return StepFailedError()
