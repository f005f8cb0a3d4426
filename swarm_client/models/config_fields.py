"""Fields of config.json and generation_config.json, checked. The files are input from outside."""

from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError

_MAX_SIZE = 1 << 31


def read_positive_int(checkpoint: Checkpoint, field: str) -> int:
    """Return a size from config.json.

    Raises:
        CheckpointError: it is missing, not a whole number, or absurd.
    """
    value = checkpoint.config.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _MAX_SIZE:
        raise CheckpointError(
            f"config.json of {checkpoint.source!r}: {field} must be a positive whole number, "
            f"got {value!r:.40}"
        )
    return value


def read_optional_token_id(checkpoint: Checkpoint, field: str) -> int | None:
    """Return a token id from config.json; of a list, the first one."""
    ids = _token_ids(checkpoint.config.get(field))
    return ids[0] if ids else None


def read_eos_token_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Return the ids that end a generation: generation_config.json's, else config.json's."""
    generation = checkpoint.read_json("generation_config.json") or {}
    return _token_ids(generation.get("eos_token_id")) or _token_ids(
        checkpoint.config.get("eos_token_id")
    )


def _token_ids(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(v for v in values if isinstance(v, int) and not isinstance(v, bool) and v >= 0)
