"""Errors of the state stores.

SwarmError
└── StateError
    ├── StateUnavailableError      the store does not answer
    ├── InvalidStateUrlError       its address cannot be understood
    ├── JournalNotFoundError       gone, or owned by somebody else
    ├── JournalExistsError         the id is taken
    ├── JournalLeasedError         somebody else writes it
    └── CostOverBurstError         the request can never pass the limit
"""

from swarm_protocol.errors import SwarmError


class StateError(SwarmError):
    """Base of the errors of the state stores."""

    code = "state_error"


class StateUnavailableError(StateError):
    """The store does not answer; whether the operation took effect is unknown.

    `reason` is the kind of failure, for logs; it holds neither addresses nor credentials.
    """

    code = "state_unavailable"
    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(f"the state store is unavailable ({reason})")
        self.reason = reason


class InvalidStateUrlError(StateError):
    """The address of the store cannot be understood; the message never repeats it."""

    code = "invalid_state_url"

    def __init__(self) -> None:
        super().__init__(
            "the Redis URL must look like redis://[user:password@]host:port/db "
            "(or rediss://, unix://), with special characters in the password percent-encoded"
        )


class JournalNotFoundError(StateError):
    """The journal is gone, never was, or is owned by somebody else."""

    code = "journal_not_found"

    def __init__(self, journal_id: str) -> None:
        super().__init__("there is nothing to go on with: it does not exist or has expired")
        self.journal_id = journal_id


class JournalExistsError(StateError):
    """A journal with this id exists, whoever owns it."""

    code = "journal_exists"

    def __init__(self, journal_id: str) -> None:
        super().__init__("a journal with this id exists already")
        self.journal_id = journal_id


class JournalLeasedError(StateError):
    """Somebody else may write the journal now."""

    code = "journal_leased"
    retryable = True

    def __init__(self, journal_id: str) -> None:
        super().__init__("another worker writes this journal")
        self.journal_id = journal_id


class CostOverBurstError(StateError):
    """The request costs more than the limit holds when full, so waiting cannot help."""

    code = "over_limit"

    def __init__(self, limit_name: str, cost_tokens: int, burst_tokens: int) -> None:
        super().__init__(
            f"the request may cost {cost_tokens} tokens, "
            f"but the limit per {limit_name} never allows more than {burst_tokens} at once"
        )
        self.limit_name = limit_name
        self.cost_tokens = cost_tokens
        self.burst_tokens = burst_tokens
