"""What callers may use, as settings."""

from pydantic import BaseModel, ConfigDict, Field


class LimitSettings(BaseModel):
    """What callers may use; a stored key may have limits of its own. Durations are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_tokens_per_minute: int = Field(
        default=2_000_000,
        ge=0,
        le=10_000_000,
        description="Prompt and output, per API key; 0 is no limit.",
    )
    key_burst_tokens: int = Field(
        default=1_000_000,
        ge=1,
        le=10_000_000,
        description="Prompt and output, per API key, at once.",
    )
    key_requests_per_minute: int = Field(
        default=0, ge=0, le=10_000_000, description="Generations asked for, per key; 0: any number."
    )
    key_monthly_tokens: int = Field(
        default=0, ge=0, le=2**50, description="Per key and month (UTC); 0 is no limit."
    )
    key_generations: int = Field(
        default=0, ge=0, le=1_000_000, description="At once, per key; 0 is no limit."
    )
    key_connections: int = Field(
        default=0, ge=0, le=1_000_000, description="WebSockets at once, per key; 0 is no limit."
    )
    address_tokens_per_minute: int = Field(
        default=2_000_000,
        ge=0,
        le=10_000_000,
        description="Prompt and output, per address; 0 is no limit.",
    )
    address_burst_tokens: int = Field(
        default=1_000_000,
        ge=1,
        le=10_000_000,
        description="Prompt and output, per address, at once.",
    )
    address_generations: int = Field(
        default=256,
        ge=0,
        le=1_000_000,
        description="At once, per address and gateway; 0 is no limit.",
    )
    address_connections: int = Field(
        default=256,
        ge=0,
        le=1_000_000,
        description="WebSockets at once, per address and gateway; 0 is no limit.",
    )
    address_tcp_connections: int = Field(
        default=1024,
        ge=0,
        le=1_000_000,
        description="TCP connections at once, per address and process, before they are WebSockets; "
        "SWARMGATE_TRUSTED_PROXIES may have any number. 0 is no limit.",
    )
    away_fraction: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="What part of the limits each gateway grants by itself while Redis does not "
        "answer; 0: nothing.",
    )
    max_generations: int = Field(
        default=256, ge=1, le=100_000, description="Of one model that run at once; others wait."
    )
    max_waiting: int = Field(
        default=256, ge=0, le=100_000, description="Generations of one model that wait at once."
    )
    max_waiting_per_key: int = Field(
        default=64, ge=1, le=100_000, description="Thereof of one key, or of one address."
    )
    queue_timeout_s: float = Field(
        default=30.0, gt=0, le=3600, description="How long a generation waits for its turn."
    )
    max_conversations: int = Field(
        default=256, ge=1, le=100_000, description="WebSocket conversations open at once."
    )
    slow_reader_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="How long a caller may take nothing of what is there for it; then it is cut "
        "off. Up to 64 tokens, and what the sockets hold, are kept for it meanwhile.",
    )
    max_body_bytes: int = Field(
        default=1_048_576, ge=1024, le=2**30, description="Largest body of an HTTP request."
    )
    body_timeout_s: float = Field(
        default=30.0, gt=0, le=3600, description="How long a body may take to arrive."
    )
    default_new_tokens: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description="Tokens generated at most when an OpenAI request names no maximum.",
    )
