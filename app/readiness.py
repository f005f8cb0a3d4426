"""Whether the gateway can do its work now, and if not, why: sentences that anybody may read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.serving import OfferedModel


@dataclass(frozen=True, slots=True)
class ModelReadiness:
    """Of one model.

    Attributes:
        canary_age_s: since the last canary token; None before the first.
        canary_reason: why none came back lately; None if one did.
        missing_blocks: `[start, end)` of blocks that nobody serves.
    """

    model_id: str
    canary_age_s: float | None
    canary_reason: str | None
    missing_blocks: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, model: OfferedModel) -> "ModelReadiness":
        """Look at a model."""
        canary = model.last_canary()
        reason = None if canary.ok else canary.reason or "unknown"
        missing = tuple((blocks.start, blocks.end) for blocks in model.remote.missing_blocks())
        return cls(model.id, canary.age_s, reason, missing)

    @property
    def is_ready(self) -> bool:
        """Whether a token can be made."""
        return self.canary_reason is None and not self.missing_blocks

    def reasons(self) -> Iterator[str]:
        """Yield why not."""
        if self.missing_blocks:
            gaps = ", ".join(f"{start}:{end}" for start, end in self.missing_blocks)
            yield f"model {self.model_id}: nobody serves blocks {gaps}"
        if self.canary_reason is not None:
            yield f"model {self.model_id}: no token came back lately ({self.canary_reason})"

    def to_json(self) -> dict[str, object]:
        """Return it as `GET /health/ready` shows it."""
        return {
            "ok": self.is_ready,
            "age_s": self.canary_age_s,
            "reason": self.canary_reason,
            "missing_blocks": self.missing_blocks,
        }


@dataclass(frozen=True, slots=True)
class Readiness:
    """Of the whole gateway.

    A store that is away is a warning, not a reason. All gateways share it: whoever takes those
    out that miss it takes out all at once, while each can go on by the policy of each feature.
    """

    is_draining: bool
    has_store: bool
    models: Mapping[str, ModelReadiness]

    def reasons(self) -> list[str]:
        """Return why it is not ready; nothing if it is."""
        reasons = ["the gateway is about to stop"] if self.is_draining else []
        for model in self.models.values():
            reasons += model.reasons()
        return reasons

    def warnings(self) -> list[str]:
        """Return what it has to do without, although it is ready."""
        return [] if self.has_store else ["the state store does not answer"]

    def to_json(self) -> dict[str, object]:
        """Return it as `GET /health/ready` shows it."""
        reasons = self.reasons()
        return {
            "ready": not reasons,
            "draining": self.is_draining,
            "reasons": reasons,
            "warnings": self.warnings(),
            "models": {model_id: model.to_json() for model_id, model in self.models.items()},
        }
