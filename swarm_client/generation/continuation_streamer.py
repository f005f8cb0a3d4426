"""A streamer that does not show again what a session holds already."""

from torch import Tensor
from transformers.generation.streamers import BaseStreamer


class ContinuationStreamer(BaseStreamer):  # type: ignore[misc]  # mypy does not follow transformers
    """Hands everything to another streamer but the first columns of the prompt."""

    def __init__(self, streamer: BaseStreamer, num_known: int) -> None:
        self._streamer = streamer
        self._num_known = num_known

    def put(self, value: Tensor) -> None:
        """Take in the prompt `[batch, num_tokens]` first, then `[batch]` new tokens at a time."""
        self._streamer.put(value[:, self._num_known :] if self._num_known else value)
        self._num_known = 0

    def end(self) -> None:
        """Nothing more will come."""
        self._streamer.end()
