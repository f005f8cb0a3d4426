"""What the client needs to know about a model besides its weights."""

from dataclasses import dataclass
from typing import Self

from swarm_client.models.config_fields import read_eos_token_ids, read_optional_token_id
from swarm_protocol.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts of one model.

    Attributes:
        source: directory or hub repository it was read from.
        model_type: the architecture's name, e.g. `llama`.
        dht_prefix: stands before the block index in uids.
        max_positions: tokens of the longest sequence the model was made for.
        eos_token_ids: each of them ends a generation; may be empty.
    """

    source: str
    model_type: str
    dht_prefix: str
    num_blocks: int
    hidden_size: int
    vocab_size: int
    max_positions: int
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    pad_token_id: int | None

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        dht_prefix: str,
        *,
        num_blocks: int,
        hidden_size: int,
        vocab_size: int,
        max_positions: int,
    ) -> Self:
        """Return facts with these sizes, which families call by different names."""
        return cls(
            source=checkpoint.source,
            model_type=checkpoint.model_type,
            dht_prefix=dht_prefix,
            num_blocks=num_blocks,
            hidden_size=hidden_size,
            vocab_size=vocab_size,
            max_positions=max_positions,
            eos_token_ids=read_eos_token_ids(checkpoint),
            bos_token_id=read_optional_token_id(checkpoint, "bos_token_id"),
            pad_token_id=read_optional_token_id(checkpoint, "pad_token_id"),
        )
