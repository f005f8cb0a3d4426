"""All settings of the gateway, checked as a whole."""

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.settings.checks import problems_of
from app.settings.keys import KeySettings
from app.settings.limits import LimitSettings
from app.settings.lists import Secrets, Texts
from app.settings.tracing import TracingSettings
from swarm_client.settings import RoutingSettings

ENV_PREFIX: Final = "SWARMGATE_"


class Settings(BaseSettings):
    """Everything the gateway can be told. Durations are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
    )

    host: str = Field(
        default="127.0.0.1", min_length=1, max_length=255, description="Address to listen on."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port; 0 takes a free one.")
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that serve behind the port; more than one share a Redis.",
    )
    models: Texts = Field(
        default=("models/demo",),
        min_length=1,
        max_length=64,
        description="Models to offer: directories, or hub repositories, best with the commit they "
        "are pinned to: organization/name@commit.",
    )
    dht_prefix: str | None = Field(
        default=None,
        max_length=200,
        description="Where the model's servers meet, if not at the place its name gives.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Of the embeddings and the LM head here."
    )
    device: Texts = Field(
        default=("cpu",),
        min_length=1,
        max_length=16,
        description="torch devices, each of which gets the embeddings and the LM head.",
    )
    head: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto",
        description="Arithmetic of the LM head here. auto: whichever of bfloat16 and float32 is "
        "faster, for models of 16 bits on a CPU. int8: several times as fast there, but not the "
        "same tokens.",
    )
    memory_budget_gb: float | None = Field(
        default=None,
        gt=0,
        le=100_000,
        description="What embeddings and LM heads of all models may take, in all workers "
        "together; a model that does not fit is refused. Unset: everything.",
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="torch threads per operation; unset: torch's own."
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Threads per model and device that choose tokens at the same time.",
    )
    max_disk_gb: float | None = Field(
        default=None,
        gt=0,
        description="What stored models of the hub may take; those used long ago make room. "
        "Unset: nothing is deleted.",
    )
    initial_peers: Texts = Field(
        default=(),
        max_length=256,
        description="Multiaddrs of the swarm to join; none: start a new private swarm.",
    )
    identity: Path | None = Field(
        default=None, description="File with our key in the swarm; unset: a new one each time."
    )
    host_maddrs: Texts = Field(
        default=("/ip4/127.0.0.1/tcp/0",),
        min_length=1,
        max_length=16,
        description="Multiaddrs to listen on in the swarm.",
    )
    announce_maddrs: Texts = Field(
        default=(), max_length=16, description="Multiaddrs told to others, if not those."
    )
    redis_url: SecretStr | None = Field(
        default=None, description="Redis for journals, limits and keys; unset: in memory."
    )
    api_keys: Secrets = Field(
        default=(), max_length=10_000, description="Keys callers must have one of; none: no keys."
    )
    admin_keys: Secrets = Field(
        default=(), max_length=100, description="Keys that open the admin API, too."
    )
    keys: KeySettings = Field(
        default=KeySettings(),
        description="Stored keys, as `swarmgate keys` makes them. Durations are in seconds.",
    )
    origins: Texts = Field(
        default=(),
        max_length=256,
        description="Other sites whose pages may call the gateway, e.g. https://chat.example.org.",
    )
    trusted_proxies: Texts = Field(
        default=("127.0.0.1", "::1"),
        max_length=256,
        description="Addresses or networks of proxies in front, whose `X-Forwarded-For` names the "
        "caller; behind any other one all callers share the limits of its address. Empty as `[]`: "
        "nobody's.",
    )
    keep_alive_s: float = Field(
        default=15.0, gt=0, le=300, description="Between comments on a silent event stream."
    )
    resume_s: float = Field(
        default=120.0,
        ge=0,
        le=86_400,
        description="How long a stream whose connection broke can be resumed, and one that has "
        "ended read again. Prompt and output are stored for that time. 0: not at all.",
    )
    abandoned_s: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description="How long a generation goes on after its connection broke; one that is "
        "resumed later is rebuilt.",
    )
    drain_s: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="Time running generations have to end at shutdown; then other gateways with "
        "the same Redis may go on with them.",
    )
    log_format: Literal["json", "console"] = Field(default="json", description="Of log lines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important lines that are logged."
    )
    limits: LimitSettings = Field(default=LimitSettings(), description="What callers may use.")
    routing: RoutingSettings = Field(
        default=RoutingSettings(), description="How servers are picked and given up on."
    )
    tracing: TracingSettings = Field(default=TracingSettings(), description="OpenTelemetry traces.")

    @property
    def needs_keys(self) -> bool:
        """Whether callers must have a key."""
        if self.keys.required is not None:
            return self.keys.required
        return bool(self.api_keys) or self.keys.file is not None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = problems_of(self)
        if problems:
            raise ValueError("; ".join(problems))
        return self
