"""Settings of the engine. Nothing here reads the environment."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from swarm_client.models.heads import HeadChoice


class EngineSettings(BaseModel):
    """What the gateway serves and with how much. Durations are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(
        min_length=1, max_length=64, description="Directories or hub repositories to serve."
    )
    dht_prefix: str | None = Field(
        default=None,
        max_length=256,
        description="Prefix of the model's blocks in the DHT; only with one model. "
        "Default: derived from the model's name.",
    )
    max_disk_bytes: int | None = Field(
        default=None, ge=1, description="What stored models of the hub may take, the oldest going."
    )
    dtype: str = Field(default="auto", description="Of embeddings and LM head; `auto` chooses.")
    devices: tuple[str, ...] = Field(
        default=("cpu",),
        min_length=1,
        max_length=16,
        description="torch devices; embeddings and LM head are on each.",
    )
    head: HeadChoice = Field(default="auto", description="Arithmetic of the LM head.")
    memory_budget_bytes: int | None = Field(
        default=None, ge=0, description="What embeddings and LM heads of all models may take."
    )
    replicas: int = Field(
        default=1, ge=1, le=64, description="Threads per model and device that choose tokens."
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="torch threads of a replica; unset: torch's own."
    )
    max_waiting: int = Field(
        default=1024, ge=1, le=65536, description="Tokens per model that may wait for a replica."
    )
    wait_for_blocks_s: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="How long a generation that begins anew waits for servers of lost blocks.",
    )
    canary_period_s: float = Field(
        default=10.0, gt=0, le=3600, description="Between two canary tokens of a model."
    )
    canary_max_age_s: float = Field(
        default=30.0, gt=0, le=3600, description="How long a canary token proves readiness."
    )

    @model_validator(mode="after")
    def _check_dht_prefix(self) -> Self:
        if self.dht_prefix is not None and len(self.models) > 1:
            raise ValueError("dht_prefix can be set only when one model is served")
        return self
