"""Blocks of a model as one PyTorch module, run by servers."""

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import torch
from torch import Tensor, nn

from swarm_client.blocking_model import BlockingModel
from swarm_client.blocking_session import BlockingSession
from swarm_client.session import EventListener
from swarm_client.session.step_checks import check_hidden
from swarm_client.training import MAX_TOKENS, run_blocks
from swarm_protocol.identifiers import BlockRange, make_uid

_NO_SESSIONS: Final[Mapping[BlockRange, BlockingSession]] = {}


class RemoteSequential(nn.Module):
    """Consecutive blocks of a model; slices, items and iteration give parts of it.

    It has no parameters: weights stay on the servers, and are frozen. Gradients pass through it.
    Inside `inference_session` the servers' KV caches are kept between calls.
    """

    def __init__(self, model: BlockingModel) -> None:
        super().__init__()
        self._model = model
        self._blocks = BlockRange(0, model.facts.num_blocks)
        # Shared by all parts: `h[2:4]` is another object each time it is written.
        self._active = ContextVar("active_sessions", default=_NO_SESSIONS)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, key: int | slice) -> "RemoteSequential":
        """Return a part, as a list would; an index gives a part of one block.

        Raises:
            IndexError: there is no such block.
            ValueError: a step other than 1.
        """
        if isinstance(key, slice):
            start, end, step = key.indices(len(self))
            if step != 1:
                raise ValueError(f"remote blocks are sliced in steps of 1, got {step}")
            return self._part(start, max(start, end))
        index = operator.index(key)
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected one of {len(self)} blocks, got {index}")
        start = index % len(self)
        return self._part(start, start + 1)

    def __iter__(self) -> Iterator["RemoteSequential"]:
        return (self[index] for index in range(len(self)))

    def extra_repr(self) -> str:
        """Return the uids of the blocks, for `repr`."""
        prefix, blocks = self._model.facts.dht_prefix, self._blocks
        uids = [make_uid(prefix, index) for index in range(blocks.start, blocks.end)]
        return "modules=" + ("..".join([uids[0], uids[-1]]) if len(uids) > 1 else "".join(uids))

    @property
    def active_session(self) -> BlockingSession | None:
        """The session that `forward` uses in this context; it is over exactly these blocks."""
        return self._active.get().get(self._blocks)

    @contextmanager
    def inference_session(
        self, max_length: int, batch_size: int = 1, *, on_event: EventListener | None = None
    ) -> Iterator[BlockingSession]:
        """Open a session for at most `max_length` tokens and use it inside the `with`."""
        opened = self.open_session(max_length=max_length, batch_size=batch_size, on_event=on_event)
        with opened as session, self.use_session(session):
            yield session

    def open_session(
        self, *, max_length: int, batch_size: int = 1, on_event: EventListener | None = None
    ) -> BlockingSession:
        """Return a session over these blocks, the caller's to use and to close.

        `on_event` is told, in another thread, of servers lost, waited for and replaced.
        """
        return self._model.open_session(
            max_length=max_length, batch_size=batch_size, blocks=self._blocks, on_event=on_event
        )

    @contextmanager
    def use_session(self, session: BlockingSession) -> Iterator[BlockingSession]:
        """Use an open session inside the `with`; it stays open afterwards.

        Raises:
            ValueError: it is over other blocks.
        """
        if session.blocks != self._blocks:
            raise ValueError(
                f"expected a session over blocks {self._blocks}, got one over {session.blocks}"
            )
        token = self._active.set({**self._active.get(), self._blocks: session})
        try:
            yield session
        finally:
            self._active.reset(token)

    @contextmanager
    def without_session(self) -> Iterator[None]:
        """Let `forward` run sequences of their own inside the `with`."""
        token = self._active.set(_NO_SESSIONS)
        try:
            yield
        finally:
            self._active.reset(token)

    def forward(
        self,
        hidden: Tensor,
        prompts: Tensor | None = None,
        hypo_ids: Tensor | None = None,
        *,
        only_last: bool = False,
    ) -> Tensor:
        """Run hidden states `[batch, num_tokens, hidden_size]` through the blocks.

        They continue the active session; without one, they are a sequence of their own, and
        gradients pass to `hidden` and `prompts`.

        Args:
            hidden: any floating dtype and device; so is the result.
            prompts: deep prompts `[len(self), batch or 1, num_prompts, hidden_size]`, added to
                the first tokens before each block.
            hypo_ids: int64 `[batch]`, in a session: the row whose KV cache each row continues.
            only_last: in a session: return outputs of each row's last token only.

        Raises:
            RuntimeError: `hidden` or `prompts` want gradients in a session.
            ValueError: a shape or dtype does not fit.
            SwarmError: see `InferenceSession.step` and `RemoteModel.run_forward`.
        """
        session = self.active_session
        if session is not None:
            if _wants_gradients(hidden, prompts):
                raise RuntimeError("gradients do not pass through inference sessions")
            return session.step(hidden, prompts=prompts, hypo_ids=hypo_ids, only_last=only_last)
        if hypo_ids is not None or only_last:
            raise ValueError("hypo_ids and only_last are for a session, and there is none")
        check_hidden(hidden, self._model.facts, batch_size=None)
        if len(self) == 0:
            return hidden
        if hidden.shape[1] > MAX_TOKENS and not _wants_gradients(hidden, prompts):
            return self._run_in_session(hidden, prompts)
        return run_blocks(self._model, hidden, prompts, self._blocks)

    def close(self) -> None:
        """Leave the swarm, with all parts of the model."""
        self._model.close()

    def _run_in_session(self, hidden: Tensor, prompts: Tensor | None) -> Tensor:
        """Run rows that are too long for one request: sessions cut them into chunks."""
        batch_size, num_tokens = hidden.shape[:2]
        with self.open_session(max_length=num_tokens, batch_size=batch_size) as session:
            return session.step(hidden, prompts=prompts)

    def _part(self, start: int, end: int) -> "RemoteSequential":
        part = RemoteSequential(self._model)
        part._blocks = BlockRange(self._blocks.start + start, self._blocks.start + end)
        part._active = self._active
        return part


def _wants_gradients(hidden: Tensor, prompts: Tensor | None) -> bool:
    wants = hidden.requires_grad or (prompts is not None and prompts.requires_grad)
    return wants and torch.is_grad_enabled()
