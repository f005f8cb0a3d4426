"""What a key allows: scopes and limits. Frozen; kept with the key, and in every `Caller`."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from app.state.rate_limits import MAX_BUDGET_TOKENS, MAX_PLACES, MAX_TOKENS


class KeySurface(StrEnum):
    """A group of routes that a key may be confined to."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    PETALS = "petals"
    TOKENS = "tokens"
    STATUS = "status"


_Rate = Annotated[int | None, Field(ge=1, le=MAX_TOKENS)]
_Places = Annotated[int | None, Field(ge=1, le=MAX_PLACES)]
_Name = Annotated[str, Field(min_length=1, max_length=255)]


class KeyScopes(BaseModel):
    """Where a key opens doors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[_Name, ...] = Field(
        default=(), max_length=64, description="Ids of models; none: all."
    )
    surfaces: tuple[KeySurface, ...] = Field(
        default=(), max_length=16, description="Groups of routes; none: all."
    )
    is_admin: bool = Field(default=False, description="Whether it opens the admin API.")

    def allow_model(self, model_id: str) -> bool:
        """Tell whether the key may use a model."""
        return not self.models or model_id in self.models

    def allow_surface(self, surface: KeySurface | None) -> bool:
        """Tell whether the key may use a route of this group; None is a route of no group."""
        return surface is None or not self.surfaces or surface in self.surfaces


class KeyLimits(BaseModel):
    """How much a key may use; what is not given is as the gateway's settings say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: _Rate = Field(default=None, description="Generations asked for.")
    tokens_per_minute: _Rate = Field(default=None, description="Prompt and output.")
    max_streams: _Places = Field(default=None, description="Generations at once.")
    max_connections: _Places = Field(default=None, description="WebSockets at once.")
    monthly_tokens: Annotated[int | None, Field(ge=1, le=MAX_BUDGET_TOKENS)] = Field(
        default=None, description="Prompt and output in a calendar month (UTC)."
    )
    weight: float = Field(
        default=1.0, gt=0, le=1000, description="Share of the slots when requests wait."
    )


ALL_SCOPES: Final = KeyScopes()
DEFAULT_LIMITS: Final = KeyLimits()
