"""Settings of the client. Nothing here reads the environment."""

from pydantic import BaseModel, ConfigDict, Field

from swarm_protocol.identifiers import PeerId


class RoutingSettings(BaseModel):
    """How the client finds, picks and gives up on servers. Durations are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connect_timeout_s: float = Field(
        default=5.0, gt=0, le=600, description="For dialling all servers of a route."
    )
    request_timeout_s: float = Field(
        default=60.0, gt=0, le=3600, description="For one step of one hop, and for rpc_info."
    )
    stay_awake_s: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="So long the event loop does not sleep after a decode step was sent. Tokens of "
        "fast servers nearby come 0.1 to 0.2 ms sooner, for one core while sessions decode.",
    )
    kv_wait_s: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="How long a session may queue for KV memory at one of our own servers.",
    )
    close_timeout_s: float = Field(
        default=1.0, gt=0, le=60, description="For saying goodbye to all servers of a session."
    )
    lookup_timeout_s: float = Field(
        default=10.0, gt=0, le=600, description="For reading all records of a model."
    )
    update_period_s: float = Field(
        default=15.0, gt=0, le=3600, description="Between two look-ups of a model's servers."
    )
    ban_s: float = Field(
        default=15.0, gt=0, le=3600, description="How long a failed server is avoided."
    )
    allowed_servers: tuple[PeerId, ...] | None = Field(
        default=None, description="Peers that may be used; None is all."
    )
    blocked_servers: tuple[PeerId, ...] = Field(default=(), description="Peers never used.")
    late_factor: float = Field(
        default=8.0,
        ge=1,
        description="A reply is late after so many times what nine of ten take, and the margin.",
    )
    late_margin_s: float = Field(
        default=0.5, ge=0, le=600, description="See late_factor. Then others are prepared."
    )
    first_patience_s: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="When a reply of a stranger that answers pings is late, at the latest.",
    )
    slow_factor: float = Field(
        default=3.0,
        ge=1,
        description="A server is left that takes so many times as long as others, and the margin.",
    )
    slow_margin_s: float = Field(default=0.05, ge=0, le=600, description="See slow_factor.")
    slow_look_s: float = Field(
        default=1.0, ge=0, le=3600, description="How often a session compares its servers so."
    )
    slow_rest_s: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="How long a session does not move blocks again that it has moved.",
    )
    show_route: bool = Field(
        default=False, description="Explain in the log each route that a session is opened on."
    )
    max_retries: int = Field(
        default=3,
        ge=0,
        le=100,
        description="Further routes tried when one fails; in a session, per hop and step. Those to "
        "servers that cannot be reached do not count: records outlive their servers.",
    )
    retry_delay_s: float = Field(
        default=0.5,
        ge=0,
        le=60,
        description="Before a pass tries failed servers again; doubled each time.",
    )
    max_sub_batches: int = Field(
        default=16, ge=1, le=1024, description="Parts of one batch under way at once, in training."
    )
    wait_for_blocks_s: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="How long a session that has run tokens, or a pass, waits for servers of lost "
        "blocks.",
    )
    hedge_after_s: float = Field(
        default=0.5,
        gt=0,
        le=600,
        description="When a server that is dialled hesitates so long, another one is dialled too.",
    )
    ping_timeout_s: float = Field(
        default=2.0, gt=0, le=60, description="After which a server counts as out of reach."
    )
    max_pinged: int = Field(
        default=16, ge=1, le=1024, description="Servers pinged after each look-up."
    )
    repair_timeout_s: float = Field(
        default=120.0,
        gt=0,
        le=3600,
        description="For replacing the servers that are lost in one step, replays included.",
    )
    max_history_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=0,
        description="Inputs of one session, of all its hops together, kept for a replay.",
    )
    prefill_chunk_tokens: int = Field(
        default=512, ge=1, le=65536, description="Prompt tokens sent in one step."
    )
    max_step_tokens: int = Field(
        default=2048, ge=1, le=1048576, description="Tokens of one step over all rows."
    )
