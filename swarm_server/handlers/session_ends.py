"""What the log tells of sessions that have ended."""

import logging
from typing import Final

from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

_PROBE_TOKENS: Final = 1


def log_session_end(peer: PeerId, blocks: BlockRange, *, num_rows: int, num_tokens: int) -> None:
    """Log one line: at info, or at debug when hardly anything has run.

    Each gateway opens a session every few seconds to see whether a token comes back, and those
    would be all that the log of a quiet server holds.
    """
    level = logging.DEBUG if num_rows * num_tokens <= _PROBE_TOKENS else logging.INFO
    log.log(
        level,
        "session_ended",
        peer=peer,
        blocks=str(blocks),
        num_rows=num_rows,
        num_tokens=num_tokens,
    )
