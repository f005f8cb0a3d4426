"""An inference session, dressed as the KV cache that transformers' `generate` expects."""

from typing import ClassVar

from torch import Tensor
from transformers.cache_utils import Cache

from swarm_client.blocking_session import BlockingSession


class RemoteKVCache(Cache):  # type: ignore[misc]  # mypy does not follow transformers
    """Holds no tensors: the servers of the session do."""

    is_compileable: ClassVar[bool] = False

    def __init__(self, session: BlockingSession) -> None:
        super().__init__(layers=[])
        self.session = session

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens that need not be run again."""
        return self.session.position

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Refuse: a beam search that ignored it would give wrong text."""
        raise NotImplementedError("beam search over remote blocks is not supported yet")
