"""Structured output: which tokens may come next, so that the output matches a grammar.

`GrammarCompiler` makes matchers of constraints, within bounds. It knows neither callers' fields
nor sessions; the engine asks the matchers, see `app.inference.token_matcher`.
"""

from app.structured.compiler import GrammarCompiler
from app.structured.limits import GrammarLimits
from app.structured.trials import TokenizerDefinition

__all__ = ["GrammarCompiler", "GrammarLimits", "TokenizerDefinition"]
