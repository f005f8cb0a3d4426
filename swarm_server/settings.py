"""What an operator may choose about a block server. Durations are in seconds."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange


class ServerSettings(BaseModel):
    """One block server: which blocks of which model, and how much it takes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="Directory of the model, or hub repository.")
    revision: str | None = Field(default=None, description="Revision of the hub repository.")
    max_disk_bytes: int | None = Field(
        default=None, ge=1, description="What stored models of the hub may take, the oldest going."
    )
    blocks: str | None = Field(
        default=None, description="Blocks to serve as START:END. Exclusive with num_blocks."
    )
    num_blocks: int | None = Field(
        default=None, ge=1, le=1024, description="How many blocks to serve; the server picks which."
    )
    dht_prefix: str | None = Field(
        default=None, description="Name under which the model's servers meet; derived by default."
    )
    adapters: tuple[str, ...] = Field(
        default=(), max_length=256, description="LoRA adapters: directories or hub repositories."
    )
    device: str = Field(default="cpu", min_length=1, description="Torch device to compute on.")
    dtype: str = Field(
        default="auto", description="auto, float32, bfloat16, or float16 on an accelerator."
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="Threads within one tensor operation."
    )
    kv_tokens: int = Field(
        default=16384, ge=1, le=1 << 30, description="KV memory: tokens of all sessions together."
    )
    kv_overcommit: float = Field(
        default=4.0,
        ge=1,
        le=64,
        description="How many times the KV memory is promised to sessions.",
    )
    page_size: int = Field(
        default=64, ge=1, le=4096, description="Tokens of one page of KV memory."
    )
    page_wait_s: float = Field(
        default=30.0, ge=0, le=3600, description="How long a step may wait for pages at least."
    )
    max_batch_tokens: int = Field(
        default=2048, ge=1, le=1 << 20, description="Most tokens of one step, over all its rows."
    )
    max_batch_rows: int = Field(
        default=256, ge=1, le=65536, description="Most rows that are decoded together."
    )
    max_chunk_ms: float = Field(
        default=50.0, gt=0, le=10000, description="How long a chunk of a prompt may hold up others."
    )
    inference_max_length: int = Field(
        default=8192, ge=1, le=1 << 24, description="Most tokens of one row of a session."
    )
    max_sessions: int = Field(default=256, ge=1, le=65536, description="Most sessions at once.")
    max_training_requests: int = Field(
        default=32, ge=1, le=4096, description="Most forward and backward requests in work at once."
    )
    max_streams: int = Field(
        default=1024, ge=1, le=1 << 20, description="Most streams of all peers at once."
    )
    max_streams_per_peer: int = Field(
        default=384,
        ge=1,
        le=1 << 20,
        description="Most streams of one peer; in the Petals dialect each of its sessions is one.",
    )
    public_name: str | None = Field(
        default=None, max_length=100, description="Name to show on the map of the swarm."
    )
    update_period_s: float = Field(
        default=30.0, gt=0, le=3600, description="How often the server announces itself."
    )
    step_timeout_s: float = Field(
        default=300.0, gt=0, description="How long a session may wait for its next step."
    )
    session_timeout_s: float = Field(
        default=1800.0, gt=0, description="How long a session may last altogether."
    )
    training_timeout_s: float = Field(
        default=180.0, gt=0, description="How long a forward or backward request may take."
    )
    drain_s: float = Field(
        default=10.0, ge=0, description="How long running sessions may go on when the server stops."
    )

    @field_validator("blocks")
    @classmethod
    def _check_blocks(cls, blocks: str | None) -> str | None:
        if blocks is not None:
            try:
                BlockRange.parse(blocks)
            except MalformedMessageError as error:
                raise ValueError(str(error)) from error
        return blocks

    @model_validator(mode="after")
    def _check_choice_of_blocks(self) -> Self:
        if self.blocks is not None and self.num_blocks is not None:
            raise ValueError("give blocks or num_blocks, not both")
        return self
