"""The output of one generation as it grows: its text, what may come next, and whether it ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from random import Random
from typing import Final

import torch

from app.inference.detokenizer import Detokenizer
from app.inference.errors import NoTokenAllowedError
from app.inference.output_text import Cut, OutputText
from app.inference.requests import GenerationRequest
from app.inference.served_model import ServedModel
from app.inference.stop_sequences import StopFinder
from app.inference.token_matcher import TokenMatcher
from swarm_client.generation.sampler_row import SamplerRow

_ALL_ALLOWED: Final = nullcontext()


class GeneratedOutput:
    """Follows the tokens of one generation. Made by `begin`; belongs to the event loop.

    Attributes:
        row: what the sampler needs; it reads the conversation's own list of tokens.
    """

    def __init__(
        self,
        request: GenerationRequest,
        row: SamplerRow,
        text: OutputText,
        eos_token_ids: Sequence[int],
        matcher: TokenMatcher | None,
    ) -> None:
        self.row = row
        self._text = text
        self._matcher = matcher
        self._hidden_ids = frozenset(() if request.keeps_stop else request.stop_token_ids)
        self._ending_ids = frozenset(request.stop_token_ids).union(
            () if request.ignore_eos else eos_token_ids
        )
        self._has_ending_token = False

    @classmethod
    async def begin(
        cls, model: ServedModel, request: GenerationRequest, token_ids: Sequence[int]
    ) -> "GeneratedOutput":
        """Return the output as it is behind the tokens that are produced already.

        Args:
            token_ids: the conversation's list, prompt included and produced tokens not yet.

        Raises:
            InvalidParametersError: a bias is for a token that the model does not have.
            SwarmError: the constraint is no valid one; see `MatcherSource.matcher`.
        """
        request.sampling.check_vocabulary(model.facts.vocab_size)
        matcher = await _matcher(model, request)
        decode = model.tokenizer.decoder(
            keeps_special_tokens=request.keeps_special_tokens, shown_ids=request.shown_special_ids
        )
        text = OutputText(
            Detokenizer(decode, token_ids), StopFinder(request.stop, keeps_stop=request.keeps_stop)
        )
        random = Random(request.sampling.seed)
        for token_id in request.produced_ids:
            text.push(token_id)
            if request.sampling.do_sample:
                random.random()  # the sampler draws one number per token
        num_words = -(-model.facts.vocab_size // 32)
        row = SamplerRow(
            request.sampling,
            token_ids,
            random,
            num_prompt=len(token_ids),
            num_logprobs=request.num_logprobs,
            mask=None if matcher is None else torch.zeros(num_words, dtype=torch.int32),
        )
        return cls(request, row, text, model.facts.eos_token_ids, matcher)

    @property
    def has_ended(self) -> bool:
        """Whether an ending token, a stop text or the constraint has ended the output."""
        return (
            self._has_ending_token
            or self._text.is_stopped
            or (self._matcher is not None and self._matcher.is_finished)
        )

    def filling_mask(self) -> AbstractAsyncContextManager[None]:
        """Find out which tokens may come next while the body runs, by a thread.

        Raises:
            NoTokenAllowedError: none may.
            SwarmError: see `TokenMatcher.fill_mask`.
        """
        return _ALL_ALLOWED if self._matcher is None else self._filling_mask(self._matcher)

    def push(self, token_id: int) -> str:
        """Take the next token; return the text to pass on."""
        self._has_ending_token = token_id in self._ending_ids
        if self._matcher is not None:
            self._matcher.accept(token_id)
        return "" if token_id in self._hidden_ids else self._text.push(token_id)

    def finish(self) -> str:
        """Return text that was held back: no more tokens will come. It may complete a stop text."""
        return self._text.finish()

    def cut(self) -> Cut | None:
        """Return what stays of the tokens if a stop text ended in the midst of them."""
        return self._text.cut() if self._text.is_stopped else None

    @asynccontextmanager
    async def _filling_mask(self, matcher: TokenMatcher) -> AsyncIterator[None]:
        filling = asyncio.get_running_loop().run_in_executor(None, self._fill_mask, matcher)
        try:
            yield
        except BaseException:
            filling.cancel()  # and nobody asks what became of it
            raise
        await filling

    def _fill_mask(self, matcher: TokenMatcher) -> None:
        assert self.row.mask is not None
        matcher.fill_mask(self.row.mask)
        if not self.row.mask.any():
            raise NoTokenAllowedError


async def _matcher(model: ServedModel, request: GenerationRequest) -> TokenMatcher | None:
    """Return the request's matcher behind the tokens that are produced already."""
    constraint = request.constraint
    if constraint is None:
        return None
    matcher = await model.matchers.matcher(constraint)
    if request.produced_ids:
        await asyncio.to_thread(_accept_all, matcher, request.produced_ids)
    return matcher


def _accept_all(matcher: TokenMatcher, token_ids: Sequence[int]) -> None:
    for token_id in token_ids:
        matcher.accept(token_id)
