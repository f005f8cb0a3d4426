"""Where keys are kept and how long they are remembered, as settings."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class KeySettings(BaseModel):
    """Stored keys, as `swarmgate keys` makes them. Durations are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path | None = Field(
        default=None, description="File with the hashes of keys; unset: in Redis, if that is set."
    )
    required: bool | None = Field(
        default=None,
        description="Whether callers need a key; unset: if keys are given or the file is.",
    )
    cache_s: float = Field(
        default=5.0,
        ge=0,
        le=300,
        description="How long a stored key is remembered, and a revoked one may still open.",
    )
    grace_s: float = Field(
        default=60.0,
        ge=0,
        le=3600,
        description="How long a key opens that was good lately, while its store does not answer.",
    )
