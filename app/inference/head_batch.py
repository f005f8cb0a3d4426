"""One LM-head product and one sampling call for the rows of many generations. Knows no threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from traceback import format_exception

import structlog
import torch
from torch import Tensor

from app.inference.errors import BadHiddenStatesError, HeadFailedError
from swarm_client.generation.logprobs import TokenLogprob, token_logprobs
from swarm_client.generation.sampler import sample_tokens
from swarm_client.generation.sampler_row import SamplerRow
from swarm_client.models import LocalParts
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HeadRow:
    """The last hidden state of one generation, `[hidden_size]`, and how to go on from it."""

    hidden: Tensor
    sampler_row: SamplerRow


@dataclass(frozen=True, slots=True)
class Choice:
    """The next token of one generation and its embedding, `[1, 1, hidden_size]` on the CPU.

    `logprob` is there if the row wants it.
    """

    token_id: int
    embedding: Tensor
    logprob: TokenLogprob | None


def choose_tokens(parts: LocalParts, rows: Sequence[HeadRow]) -> list[Choice | SwarmError]:
    """Return the next token of each row; a row that cannot have one gets an error instead.

    A row's outcome does not depend on its neighbours. When the batch as a whole fails, which only
    a fault of our own can cause, each row is tried by itself.
    """
    try:
        return _choose_together(parts, rows)
    except Exception as error:
        if len(rows) == 1:
            # As text, because structlog's own tracebacks show variables, and with them prompts.
            log.error("head_failed", traceback="".join(format_exception(error)))
            return [HeadFailedError()]
        return [outcome for row in rows for outcome in choose_tokens(parts, [row])]


def _choose_together(parts: LocalParts, rows: Sequence[HeadRow]) -> list[Choice | SwarmError]:
    device = next(parts.parameters()).device
    logits = parts.logits(torch.stack([row.hidden for row in rows]).to(device))
    is_finite = logits.sum(dim=-1).isfinite().tolist()  # one that is not makes the sum so
    good = [index for index, is_good in enumerate(is_finite) if is_good]
    outcomes: list[Choice | SwarmError] = [BadHiddenStatesError() for _ in rows]
    if not good:
        return outcomes
    if len(good) < len(rows):
        logits = logits[good]
    sampler_rows = [rows[index].sampler_row for index in good]
    token_ids = sample_tokens(logits, sampler_rows)
    logprobs = _logprobs(logits, sampler_rows, token_ids)
    embeddings = parts.embed(torch.tensor(token_ids, device=device)).cpu()
    for row, (index, token_id, embedding) in enumerate(
        zip(good, token_ids, embeddings, strict=True)
    ):
        outcomes[index] = Choice(token_id, embedding.view(1, 1, -1), logprobs.get(row))
    return outcomes


def _logprobs(
    logits: Tensor, rows: Sequence[SamplerRow], token_ids: Sequence[int]
) -> dict[int, TokenLogprob]:
    """Return those of the rows that want any, by the index of the row."""
    wanted = {
        index: row.num_logprobs for index, row in enumerate(rows) if row.num_logprobs is not None
    }
    if not wanted:
        return {}
    some = logits if len(wanted) == len(rows) else logits[list(wanted)]
    found = token_logprobs(some, [token_ids[index] for index in wanted], list(wanted.values()))
    return dict(zip(wanted, found, strict=True))
