"""What the client needs to know about a model besides its weights; no behaviour."""

from dataclasses import dataclass


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
