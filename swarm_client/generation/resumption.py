"""Generation in a session that may hold tokens already: what to feed, and what it holds after.

Petals' rules (PETALS_PROTOCOL §9.3): the ids of a call are all ids so far and the new inputs, of
which only those that have not run yet are fed. The last id of an earlier call never has.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from swarm_client.blocking_session import BlockingSession
from swarm_client.errors import InvalidParametersError, PaddingError, RollbackUnsupportedError
from swarm_client.generation.continuation_streamer import ContinuationStreamer


class Resumption:
    """One call of `generate` in a session.

    Attributes:
        input_ids: int64 `[batch, num_tokens]` for transformers: all ids so far and the new ones;
            None for its start token.
    """

    def __init__(
        self, session: BlockingSession, inputs: Tensor | None, options: dict[str, Any]
    ) -> None:
        """Set session and options (those of transformers' `generate`) up for the call.

        Raises:
            InvalidParametersError, PaddingError: an option does not go with a session.
            ValueError: the inputs do not go with what the session holds.
        """
        if options.get("inputs_embeds") is not None:
            raise InvalidParametersError(
                "inputs_embeds", "None in a session: run them by its step()", "a tensor"
            )
        self.input_ids = inputs
        self._session = session
        self._known = session.output_ids
        self._num_known = 0
        if self._known is not None:
            self._num_known = self._known.shape[1]
            self.input_ids = _join(self._known, inputs)
            _extend_mask(options, self.input_ids)
            if options.get("streamer") is not None:
                options["streamer"] = ContinuationStreamer(options["streamer"], self._num_known)
        self._leave_a_token_to_run()
        self._start = session.position

    @contextmanager
    def restored_on_failure(self) -> Iterator[None]:
        """Put the session back to where it was when the generation fails."""
        num_rows = self._session.num_rows
        try:
            yield
        except BaseException:
            with suppress(RollbackUnsupportedError):
                self._return_to(self._start, num_rows, self._known)
            raise

    def finish(self, result: Any, *, were_beams: bool) -> Any:
        """Let the session continue from a result of transformers' `generate`.

        Beams end in KV caches of other texts than the best ones: from the end of the prompt on,
        the next call runs the best ones again.

        Returns:
            The result without the ids of earlier calls.
        """
        sequences: Tensor = result.sequences if isinstance(result, ModelOutput) else result
        if were_beams:
            num_prompts = 1 if self.input_ids is None else len(self.input_ids)
            num_tokens = 1 if self.input_ids is None else self.input_ids.shape[1]
            num_beams = (self._session.num_rows or 1) // num_prompts
            rows = torch.arange(len(sequences)) // (len(sequences) // num_prompts) * num_beams
            self._session.position = self._session.num_tuned + num_tokens
            self._session.take_rows(rows)
        self._session.output_ids = sequences
        new = sequences[:, self._num_known :]
        if not isinstance(result, ModelOutput):
            return new
        result.sequences = new
        return result

    def _leave_a_token_to_run(self) -> None:
        """After a rollback all ids may have run; the last one must run again to be continued."""
        num_run = self._session.num_tokens_run
        if num_run == 0:
            return
        num_tokens = 0 if self.input_ids is None else self.input_ids.shape[1]
        if num_run == num_tokens and self._known is not None:
            self._session.position -= 1
            self._session.output_ids = self._known
        elif num_run >= num_tokens:
            raise ValueError(
                f"the session has run {num_run} tokens, but of only {num_tokens} are the ids known"
            )

    def _return_to(self, position: int, num_rows: int | None, output_ids: Tensor | None) -> None:
        if self._session.is_closed:
            return
        self._session.position = position
        if num_rows is not None and self._session.num_rows not in (None, num_rows):
            self._session.take_rows(
                torch.arange(num_rows) * (self._session.num_rows // num_rows)  # copies of each
            )
        self._session.output_ids = output_ids


def _join(known: Tensor, inputs: Tensor | None) -> Tensor:
    if inputs is None:
        return known
    if inputs.dim() != 2 or len(inputs) != len(known):
        raise ValueError(
            f"this session continues {len(known)} rows of tokens, got {list(inputs.shape)}"
        )
    return torch.cat([known, inputs.to(known.device)], dim=1)


def _extend_mask(options: dict[str, Any], input_ids: Tensor) -> None:
    """Tell transformers that no id is padding, whatever it looks like; a mask may cover any."""
    mask = options.get("attention_mask")
    if mask is not None and not bool((mask == 1).all()):
        raise PaddingError("none in a session, whose rows go together", "an attention mask of it")
    options["attention_mask"] = torch.ones_like(input_ids)
