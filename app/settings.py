"""Settings of the gateway: the one place of the `app` package that reads the environment.

Every name is `SWARMGATE_…`, nested ones with `__` (`SWARMGATE_ROUTING__BAN_S=5`). Lists are JSON
or comma-separated. Built once, frozen, and handed to `create_app`.
"""

import json
import os
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import SwarmError

ENV_PREFIX = "SWARMGATE_"


class SettingsError(SwarmError):
    """The settings do not fit; the message has one sentence per problem."""

    code = "bad_settings"


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


def _split(value: object) -> object:
    """Return the items of a list written as JSON or with commas; other things as they are."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [item.strip() for item in value.split(",") if item.strip()]


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]


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
    models: Texts = Field(
        default=("models/demo",),
        min_length=1,
        max_length=64,
        description="Models to offer: directories or hub repositories.",
    )
    dht_prefix: str | None = Field(
        default=None,
        max_length=200,
        description="Where the model's servers meet, if not at the place its name gives.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Of the embeddings and the LM head here."
    )
    device: str = Field(
        default="cpu", max_length=32, description="Of the embeddings and the LM head here."
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="torch threads per operation; unset: torch's own."
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Copies of the local parts of a model that work at once.",
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
        default=None, description="Redis for journals and limits; unset: in memory."
    )
    api_keys: Secrets = Field(
        default=(), max_length=10_000, description="Keys callers must have one of; none: no keys."
    )
    allowed_origins: Texts = Field(
        default=(),
        max_length=256,
        description="Other sites whose pages may open WebSockets, e.g. https://chat.example.org.",
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

    @model_validator(mode="after")
    def _check_public_bind(self) -> Self:
        if not self.api_keys and not _is_loopback(self.host):
            raise ValueError(
                f"listening on {self.host} would open the gateway to everybody: "
                "set SWARMGATE_API_KEYS, or listen on 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _check_dht_prefix(self) -> Self:
        if self.dht_prefix is not None and len(self.models) > 1:
            raise ValueError("SWARMGATE_DHT_PREFIX can be set only when one model is offered")
        return self

    @model_validator(mode="after")
    def _check_api_keys(self) -> Self:
        if any(len(key.get_secret_value()) < 8 for key in self.api_keys):
            raise ValueError("an API key in SWARMGATE_API_KEYS has fewer than 8 characters")
        return self


def load_settings(environ: Mapping[str, str] = os.environ, **given: Any) -> Settings:
    """Return the settings: what is `given`, then the environment, then the defaults.

    Args:
        environ: looked at for names that are no setting; the values are read from the process.
        given: as parsed from a command line; `Any`, because they are checked here.

    Raises:
        SettingsError: a value does not fit, or a `SWARMGATE_…` name is none of ours.
    """
    unknown = unknown_names(environ)
    if unknown:
        raise SettingsError(f"unknown settings: {', '.join(unknown)}")
    try:
        return Settings(**given)
    except (ValidationError, ValueError) as error:
        raise SettingsError(_sentences(error)) from error


def unknown_names(names: Iterable[str]) -> list[str]:
    """Return those that begin with `SWARMGATE_` and are no setting."""
    known = set(Settings.model_fields)
    prefix = ENV_PREFIX.lower()
    return sorted(
        name
        for name in names
        if name.lower().startswith(prefix)
        and name.lower().removeprefix(prefix).partition("__")[0] not in known
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _sentences(error: Exception) -> str:
    """Name each setting with what was expected. Values stay out: one may be a secret."""
    if not isinstance(error, ValidationError):
        return str(error)
    parts = []
    for problem in error.errors(include_url=False, include_input=False):
        place = "__".join(str(step) for step in problem["loc"] if isinstance(step, str))
        name = f"{ENV_PREFIX}{place.upper()}: " if place else ""
        parts.append(f"{name}{problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)
