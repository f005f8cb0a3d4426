"""What the server has no room or time for, and its own faults."""

from swarm_protocol.errors import SwarmError


class KVMemoryError(SwarmError):
    """The KV memory asked for is not there, now or ever."""

    code = "kv_memory_exhausted"
    retryable = True
    num_free_tokens: int | None = None  # where it is known

    @classmethod
    def over_limit(cls, max_length: int, limit: int) -> "KVMemoryError":
        """Return the error for a session longer than the server takes."""
        return cls(f"Cannot allocate KV cache for {max_length} tokens, max = {limit}")

    @classmethod
    def over_total(cls, wanted_bytes: int, total_bytes: int) -> "KVMemoryError":
        """Return the error for a session that does not fit into an empty server."""
        return cls(f"Could not allocate {wanted_bytes} bytes, max cache size = {total_bytes} bytes")

    @classmethod
    def full(cls, wanted_bytes: int, waited_s: float) -> "KVMemoryError":
        """Return the error for memory that others hold, after waiting `waited_s` for it."""
        if waited_s <= 0:
            return cls(f"Could not allocate {wanted_bytes} bytes immediately: out of memory")
        return cls(
            f"Server's attention cache is full, failed to allocate {wanted_bytes} bytes: "
            f"Could not allocate {wanted_bytes} within {waited_s:g} seconds"
        )

    @classmethod
    def no_pages(cls, num_tokens: int, num_free_tokens: int, waited_s: float) -> "KVMemoryError":
        """Return the error for a step of an open session that has waited for pages."""
        error = cls(
            f"Server's attention cache is full: no room for {num_tokens} tokens within "
            f"{waited_s:g} seconds, {num_free_tokens} tokens are free"
        )
        error.num_free_tokens = num_free_tokens
        return error


class PagesExhaustedError(KVMemoryError):
    """Too few pages are free just now."""

    code = "pages_exhausted"

    def __init__(self, num_wanted: int, num_available: int) -> None:
        super().__init__(f"{num_wanted} pages are needed, {num_available} are free")
        self.num_wanted = num_wanted
        self.num_available = num_available


class TooManySessionsError(SwarmError):
    """The server runs its maximum of sessions."""

    code = "too_many_sessions"
    retryable = True

    def __init__(self, max_sessions: int) -> None:
        super().__init__(f"this server runs its maximum of {max_sessions} sessions")
        self.max_sessions = max_sessions


class TooManyRequestsError(SwarmError):
    """The server has its maximum of forward and backward requests, those that wait included."""

    code = "too_many_requests"
    retryable = True

    def __init__(self, max_requests: int) -> None:
        super().__init__(f"this server has its maximum of {max_requests} requests")
        self.max_requests = max_requests


class TooManyStreamsError(SwarmError):
    """The server has its maximum of open streams, with this peer or with all."""

    code = "too_many_streams"
    retryable = True

    def __init__(self, max_streams: int, whose: str) -> None:
        super().__init__(f"this server has its maximum of {max_streams} open streams {whose}")
        self.max_streams = max_streams


class RequestExpiredError(SwarmError):
    """A forward or backward request took longer than the server allows."""

    code = "request_expired"
    retryable = True

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"the request took longer than {timeout_s:g} seconds")
        self.timeout_s = timeout_s


class ServerDrainingError(SwarmError):
    """The server takes nothing new, because it is about to stop."""

    code = "server_draining"
    retryable = True

    def __init__(self) -> None:
        super().__init__("this server is shutting down")


class SessionExpiredError(SwarmError):
    """The session lasted longer than the server allows, or the server stops."""

    code = "session_expired"
    retryable = True


class StepFailedError(SwarmError):
    """A fault of ours while computing a step; its cause is in our log."""

    code = "step_failed"

    def __init__(self) -> None:
        super().__init__("the server failed to compute this step")


class BatchFailedError(StepFailedError):
    """The device failed on a batch of steps, of this and perhaps other sessions."""

    code = "batch_failed"
    retryable = True
