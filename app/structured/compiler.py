"""From constraints to matchers, for the vocabulary of one model."""

import asyncio
from dataclasses import dataclass
from functools import cached_property

from llguidance import LLMatcher, LLTokenizer

from app.inference.requests import OutputConstraint
from app.structured.errors import (
    GrammarsUnavailableError,
    GrammarTooLargeError,
    GrammarTooSlowError,
    InvalidGrammarError,
)
from app.structured.grammar_cache import RecentlyUsed
from app.structured.limits import GrammarLimits, check_constraint
from app.structured.matcher import GrammarMatcher
from app.structured.trial_process import library_limits
from app.structured.trials import GrammarTrials, TokenizerDefinition
from swarm_protocol.errors import SwarmError


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What became of a constraint that cannot be used; the same will become of it again."""

    kind: type[SwarmError]
    message: str


class GrammarCompiler:
    """`MatcherSource` of one model.

    A new constraint is tried out in another process first. Compiled, it is kept, and so is a
    refusal. Nothing is built before the first constraint comes.
    """

    def __init__(self, tokenizer: TokenizerDefinition, limits: GrammarLimits | None = None) -> None:
        self._definition = tokenizer
        self._limits = limits or GrammarLimits()
        self._trials = GrammarTrials(tokenizer, self._limits)
        self._kept: RecentlyUsed[OutputConstraint, LLMatcher | _Refusal] = RecentlyUsed(
            max_entries=self._limits.max_kept, max_bytes=self._limits.max_kept_bytes
        )

    async def prepare(self, constraint: OutputConstraint, tenant: str = "") -> None:
        """Compile a constraint, so that its matcher is there at once.

        Raises:
            InvalidGrammarError, GrammarTooLargeError, GrammarsUnavailableError,
            CompilersBusyError: see the classes.
        """
        await self._compiled(constraint, tenant)

    async def matcher(self, constraint: OutputConstraint) -> GrammarMatcher:
        """Return a matcher at the beginning of the output. Raises as `prepare` does."""
        compiled = await self._compiled(constraint, "")
        # Large grammars take a while to copy, too.
        copy = await asyncio.to_thread(compiled.deep_copy)
        return GrammarMatcher(copy, (self._tokenizer.vocab_size + 31) // 32)

    async def close(self) -> None:
        """End the processes. Idempotent."""
        await self._trials.close()

    async def _compiled(self, constraint: OutputConstraint, tenant: str) -> LLMatcher:
        kept = self._kept.get(constraint)
        if kept is None:
            kept = await self._compile(constraint, tenant)
            self._kept.put(constraint, kept, len(constraint.text.encode(errors="replace")))
        if isinstance(kept, _Refusal):
            raise kept.kind(kept.message)
        return kept

    async def _compile(self, constraint: OutputConstraint, tenant: str) -> LLMatcher | _Refusal:
        try:
            check_constraint(constraint, self._limits)
            grammar = await self._trials.try_out(constraint, tenant)
        except GrammarTooSlowError:
            raise  # it may be in time when it comes again
        except (InvalidGrammarError, GrammarTooLargeError) as error:
            return _Refusal(type(error), str(error))
        return await asyncio.to_thread(self._build, grammar)

    def _build(self, grammar: str) -> LLMatcher | _Refusal:
        """Compile what has been tried out; the library lets other threads run meanwhile."""
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=library_limits())
        if matcher.is_error():
            return _Refusal(InvalidGrammarError, "the grammar cannot be compiled")
        return matcher

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        """About a second's work for a large vocabulary."""
        try:
            return LLTokenizer(
                self._definition.write(),
                n_vocab=self._definition.vocab_size,
                eos_token=list(self._definition.eos_token_ids),
                slices=LLTokenizer.json_slices(),
            )
        except ValueError as error:
            raise GrammarsUnavailableError from error
