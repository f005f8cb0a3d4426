"""Inference sessions, dressed as the KV cache that transformers' `generate` expects.

Rows of a batch that have as many tokens share a session. Usually that is all of them; prompts of
unequal length are as many sessions as there are lengths.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from swarm_client.blocking_session import BlockingSession
from swarm_client.errors import PaddingError
from swarm_client.generation.padding import RowGroup, group_rows, join_groups

GroupOpener: TypeAlias = Callable[[RowGroup], BlockingSession]
"""Returns the session of a group of rows."""


class TrunkPass(Protocol):
    """`DistributedModel.run_trunk`."""

    def __call__(
        self,
        inputs_embeds: Tensor,
        session: BlockingSession,
        *,
        hypo_ids: Tensor | None,
        only_last: bool,
    ) -> Tensor:
        """Return hidden states for the head."""


class RemoteKVCache(Cache):  # type: ignore[misc]  # mypy does not follow transformers
    """Holds no tensors: the servers of the sessions do.

    Attributes:
        was_reordered: a beam search has permuted its rows.
    """

    is_compileable: ClassVar[bool] = False

    def __init__(
        self, session: BlockingSession | None = None, *, opener: GroupOpener | None = None
    ) -> None:
        """Begin with an open session, in which all rows must have as many tokens, or with none."""
        assert (session is None) != (opener is None)
        super().__init__(layers=[])
        self.was_reordered = False
        self._opener = opener
        self._groups: tuple[RowGroup, ...] = ()
        self._sessions: list[BlockingSession] = [] if session is None else [session]
        self._hypo_ids: Tensor | None = None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of columns, padding included, that need not be run again."""
        if not self._sessions:
            return 0
        num_padding = self._groups[0].num_padding if self._groups else 0
        return self._sessions[0].num_tokens_run + num_padding

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let each row continue another one from the next step on; int64 `[batch]`."""
        self.was_reordered = True
        self._hypo_ids = beam_idx.cpu()

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens of all rows, drafts that were wrong; a number <= 0."""
        for session in self._sessions:
            session.position += tokens_to_remove

    def run(
        self,
        embeds: Tensor,
        attention_mask: Tensor | None,
        run_trunk: TrunkPass,
        *,
        only_last: bool = False,
    ) -> Tensor:
        """Run the next columns of a batch, each group of rows in its session.

        Args:
            embeds: `[batch, num_tokens, hidden_size]`.
            attention_mask: `[batch, columns so far and these]`; None is all ones.
            run_trunk: runs the rows of one group.
            only_last: return the last column only.

        Raises:
            PaddingError: the padding is not on the left.
            SwarmError: see `BlockingSession.step`; also what the opener raises.
        """
        num_columns = self.get_seq_length()
        if not self._groups:
            self._open(attention_mask, len(embeds))
        hypo_ids, self._hypo_ids = self._hypo_ids, None
        is_grad_enabled = torch.is_grad_enabled()

        def run_group(group: RowGroup, session: BlockingSession) -> Tensor:
            inputs = embeds if len(self._groups) == 1 else embeds[group.rows.to(embeds.device)]
            inputs = inputs[:, max(group.num_padding - num_columns, 0) :]
            if inputs.shape[1] == 0:
                return inputs
            with torch.set_grad_enabled(is_grad_enabled):  # a setting of each thread's own
                order = _order_within(group, hypo_ids)
                return run_trunk(inputs, session, hypo_ids=order, only_last=only_last)

        if len(self._groups) == 1:
            outputs = [run_group(self._groups[0], self._sessions[0])]
        else:
            with ThreadPoolExecutor(len(self._groups)) as threads:
                outputs = list(threads.map(run_group, self._groups, self._sessions))
        return join_groups(outputs, self._groups, 1 if only_last else embeds.shape[1])

    def close(self) -> None:
        """Close its sessions."""
        for session in self._sessions:
            session.close()

    def _open(self, attention_mask: Tensor | None, batch_size: int) -> None:
        groups = group_rows(attention_mask, batch_size)
        if self._opener is not None:
            for group in groups:
                self._sessions.append(self._opener(group))
        elif len(groups) > 1 or groups[0].num_padding:
            raise PaddingError("none in a session, whose rows go together", "unequal rows")
        else:
            _fit_rows(self._sessions[0], batch_size)
        self._groups = groups


def _fit_rows(session: BlockingSession, batch_size: int) -> None:
    """Let every row of an open session be continued as often as the batch wants it."""
    num_rows = session.num_rows
    if num_rows is not None and batch_size != num_rows and batch_size % num_rows == 0:
        session.take_rows(torch.arange(num_rows).repeat_interleave(batch_size // num_rows))


def _order_within(group: RowGroup, hypo_ids: Tensor | None) -> Tensor | None:
    """Beams stay within their prompt, so the rows that a row continues are of its group."""
    return None if hypo_ids is None else torch.searchsorted(group.rows, hypo_ids[group.rows])
