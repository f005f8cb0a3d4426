"""All blocks of a model as one PyTorch module, run by servers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor, nn

from swarm_client.blocking_model import BlockingModel
from swarm_client.blocking_session import BlockingSession


class RemoteSequential(nn.Module):
    """The blocks of a model. Inside `inference_session` their KV caches are kept between calls.

    It has no parameters: weights stay on the servers. Gradients do not pass through it yet.
    """

    def __init__(self, model: BlockingModel) -> None:
        super().__init__()
        self._model = model
        self._active = ContextVar[BlockingSession | None]("active_session", default=None)

    def __len__(self) -> int:
        return self._model.facts.num_blocks

    @property
    def active_session(self) -> BlockingSession | None:
        """The session that `forward` uses in this context."""
        return self._active.get()

    @contextmanager
    def inference_session(self, max_length: int, batch_size: int = 1) -> Iterator[BlockingSession]:
        """Open a session for at most `max_length` tokens and use it inside the `with`."""
        with (
            self._model.open_session(max_length=max_length, batch_size=batch_size) as session,
            self.use_session(session),
        ):
            yield session

    @contextmanager
    def use_session(self, session: BlockingSession) -> Iterator[BlockingSession]:
        """Use an open session inside the `with`; it stays open afterwards."""
        token = self._active.set(session)
        try:
            yield session
        finally:
            self._active.reset(token)

    def forward(
        self, hidden: Tensor, prompts: Tensor | None = None, hypo_ids: Tensor | None = None
    ) -> Tensor:
        """Run hidden states `[batch, num_tokens, hidden_size]` through all blocks.

        They continue the active session; without one, they are a sequence of their own.

        Raises:
            RuntimeError: `hidden` or `prompts` want gradients.
            SwarmError: see `InferenceSession.step`.
        """
        if hidden.requires_grad or (prompts is not None and prompts.requires_grad):
            raise RuntimeError("gradients do not pass through remote blocks yet")
        session = self.active_session
        if session is not None:
            return session.step(hidden, prompts=prompts, hypo_ids=hypo_ids)
        batch_size, num_tokens = hidden.shape[:2]
        with self._model.open_session(max_length=num_tokens, batch_size=batch_size) as session:
            return session.step(hidden, prompts=prompts, hypo_ids=hypo_ids)

    def close(self) -> None:
        """Leave the swarm."""
        self._model.close()
