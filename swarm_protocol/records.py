"""Records in the DHT: which server holds which blocks, and which models exist.

Strict types are part of the format: stock readers drop a record in which an integer stands where
a float is declared. Source: PETALS_PROTOCOL §1.4 and §1.5.
"""

from enum import IntEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import MAX_BLOCKS

MODEL_REGISTRY_KEY: Final = "_petals.models"


def _only_float(value: object) -> object:
    """Refuse integers, which pydantic's strict mode takes for floats and stock readers do not."""
    if isinstance(value, float):
        return value
    raise ValueError("expected a float")


WireFloat = Annotated[float, BeforeValidator(_only_float)]
Rate = Annotated[WireFloat, Field(ge=0, allow_inf_nan=False)]
BlockIndex = Annotated[int, Field(ge=0, le=MAX_BLOCKS)]


class ServerState(IntEnum):
    """Life of a server as it announces itself."""

    OFFLINE = 0
    JOINING = 1
    ONLINE = 2


def _as_tuple(value: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value)


class ServerRecord(BaseModel):
    """What a server publishes under each uid it serves, with its peer id as the subkey.

    Rates are in tokens per second; `next_pings` maps peer ids to seconds and may hold infinity.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    state: ServerState = Field(strict=False)
    throughput: Rate
    start_block: BlockIndex | None = None
    end_block: BlockIndex | None = None
    public_name: str | None = None
    version: str | None = None
    network_rps: Rate | None = None
    forward_rps: Rate | None = None
    inference_rps: Rate | None = None
    adapters: Annotated[list[str] | tuple[str, ...], AfterValidator(_as_tuple)] = ()
    torch_dtype: str | None = None
    quant_type: str | None = None
    using_relay: bool | None = None
    cache_tokens_left: Annotated[int, Field(ge=0)] | None = None
    next_pings: dict[str, WireFloat] | None = None

    def to_wire(self) -> tuple[int, float, dict[str, object]]:
        """Return the value to publish: state, throughput, and the rest without absent keys."""
        extra = self.model_dump(exclude={"state", "throughput"}, exclude_none=True)
        return int(self.state), self.throughput, extra

    @classmethod
    def from_wire(cls, value: object) -> "ServerRecord":
        """Return the checked record.

        Raises:
            MalformedMessageError: not `(state, throughput[, extra])`, or a field of a wrong type.
        """
        if not isinstance(value, list | tuple) or not 2 <= len(value) <= 3:
            raise MalformedMessageError("a server record is (state, throughput, extra)")
        state, throughput, *rest = value
        extra = rest[0] if rest else {}
        if not isinstance(extra, dict) or not _is_state(state):
            raise MalformedMessageError("a server record is (state, throughput, extra)")
        try:
            return cls(**{**extra, "state": ServerState(state), "throughput": throughput})
        except (ValidationError, TypeError) as error:
            raise MalformedMessageError("a server record has a field of a wrong type") from error


class ModelRecord(BaseModel):
    """Entry of the registry of models; the subkey is the DHT prefix."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    num_blocks: int = Field(ge=1, le=MAX_BLOCKS)
    repository: str | None = None


def _is_state(value: object) -> bool:
    return type(value) is int and value in {int(state) for state in ServerState}
