"""What callers may use, as settings."""

from pydantic import BaseModel, ConfigDict, Field


class LimitSettings(BaseModel):
    """What callers may use. Rates count tokens, prompt and output alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_tokens_per_minute: int = Field(
        default=2_000_000, ge=0, le=10_000_000, description="Per API key; 0 is no limit."
    )
    key_burst_tokens: int = Field(
        default=1_000_000, ge=1, le=10_000_000, description="Per API key, at once."
    )
    address_tokens_per_minute: int = Field(
        default=2_000_000, ge=0, le=10_000_000, description="Per address; 0 is no limit."
    )
    address_burst_tokens: int = Field(
        default=1_000_000, ge=1, le=10_000_000, description="Per address, at once."
    )
    max_generations: int = Field(
        default=256, ge=1, le=100_000, description="Generations that run at once."
    )
    max_conversations: int = Field(
        default=256, ge=1, le=100_000, description="WebSocket conversations open at once."
    )
    max_body_bytes: int = Field(
        default=1_048_576, ge=1024, le=2**30, description="Largest body of an HTTP request."
    )
    default_new_tokens: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description="Tokens generated at most when an OpenAI request names no maximum.",
    )
