"""Sizes of the model and of its training steps, by name."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """One size. `row_length` and `tokens_per_step` count tokens."""

    hidden_size: int
    num_blocks: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    vocab_size: int
    row_length: int
    tokens_per_step: int
    learning_rate: float

    @property
    def rows_per_step(self) -> int:
        """Rows of one training step, at least one."""
        return max(1, self.tokens_per_step // self.row_length)


PRESETS = {
    # What ships: 6.95 million parameters. Wants a GPU.
    "base": Preset(
        hidden_size=256,
        num_blocks=8,
        num_heads=8,
        num_kv_heads=4,
        intermediate_size=704,
        vocab_size=4096,
        row_length=2048,
        tokens_per_step=131_072,
        learning_rate=2e-3,
    ),
    # Stories and small talk after ten minutes on two CPU cores.
    "small": Preset(
        hidden_size=160,
        num_blocks=6,
        num_heads=5,
        num_kv_heads=5,
        intermediate_size=432,
        vocab_size=2048,
        row_length=512,
        tokens_per_step=2048,
        learning_rate=3e-3,
    ),
    # Learns next to nothing, in seconds: for tests of the trainer.
    "tiny": Preset(
        hidden_size=64,
        num_blocks=2,
        num_heads=4,
        num_kv_heads=2,
        intermediate_size=128,
        vocab_size=512,
        row_length=256,
        tokens_per_step=1024,
        learning_rate=3e-3,
    ),
}
