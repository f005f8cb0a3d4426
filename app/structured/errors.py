"""Errors of grammars, under `SwarmError`.

SwarmError
├── InvalidGrammarError         the schema, pattern, choice or grammar is none that can be kept to
├── GrammarTooLargeError        it is over a bound: bytes, depth, parts, memory
│   └── GrammarTooSlowError         … or time
├── GrammarsUnavailableError    the model's tokenizer is of a kind that cannot be constrained
├── GrammarFailedError          it went wrong in the middle of the output
└── CompilersBusyError          too many new grammars wait for their turn
"""

from swarm_protocol.errors import SwarmError


class InvalidGrammarError(SwarmError):
    """The constraint is none that can be kept to; the text says why, in one sentence."""

    code = "invalid_grammar"


class GrammarTooLargeError(SwarmError):
    """The constraint is over a bound; the text names it."""

    code = "grammar_too_large"


class GrammarTooSlowError(GrammarTooLargeError):
    """It was not compiled in time; on a machine that is less busy it may be."""


class GrammarsUnavailableError(SwarmError):
    """The model's tokenizer is of a kind that cannot be constrained."""

    code = "grammars_unavailable"

    def __init__(self) -> None:
        super().__init__("this model's tokenizer does not allow structured output")


class GrammarFailedError(SwarmError):
    """The output cannot be kept to the grammar any longer: a step went over its bounds."""

    code = "grammar_failed"

    def __init__(self) -> None:
        super().__init__("the grammar became too complex in the middle of the output")


class CompilersBusyError(SwarmError):
    """Too many new grammars wait for their turn."""

    code = "compilers_busy"
    retryable = True

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} new grammars are waiting to be compiled, please try again soon")
