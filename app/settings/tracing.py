"""Where trace spans go, as settings."""

from pydantic import BaseModel, ConfigDict, Field


class TracingSettings(BaseModel):
    """OpenTelemetry traces; needs the extra `opentelemetry`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str | None = Field(
        default=None,
        max_length=500,
        pattern=r"^https?://[^\s?#]+$",
        description="Collector that takes OTLP over HTTP, e.g. http://127.0.0.1:4318; unset: off.",
    )
    sample_ratio: float = Field(
        default=1.0, ge=0, le=1, description="Share of the requests that are traced."
    )
    steps_per_generation: int = Field(
        default=32,
        ge=0,
        le=10_000,
        description="Steps of a generation, after its prefill, with a trace span of their own; "
        "the rest is summed up.",
    )
