"""A process of its own that tries grammars out: what crashes it, crashes nobody else.

The library's compiler is native code with recursion: a schema whose definitions refer to each
other in a chain of a thousand overflows its stack, which no exception handler survives. So a
grammar is compiled here first, with an eighth of the stack that it gets later, with bounds on
memory and time, and is made to say what may come next a few times. It stands alone: it is run by
its path, and imports nothing of ours. It ends when its input does.

A request is one line of JSON; the first one, with the tokenizer, is followed by its definition.
An answer is one line: `{"grammar": text}`, or `{"error": text}`; or the process has ended.
"""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from threading import Thread, stack_size
from typing import Any, BinaryIO, Final

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark

# Bounds of one step are some 10 ms; of the states of one generation's lexer, some 40 MB.
LIBRARY_LIMITS: Final = {
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 20_000,
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}
_GBNF_RULE: Final = re.compile(r"^\s*root\s*::=", re.MULTILINE)
_STACK_BYTES: Final = 1024 * 1024
_NUM_STEPS: Final = 16
_CPU_S: Final = 10  # ends it when nobody is left to do so
# Without a bound, a model that likes blanks may print them for ever.
JSON_OPTIONS: Final[Any] = {"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,40}"}


def library_limits() -> LLParserLimits:
    """Return the bounds of the library's work."""
    return LLParserLimits(**LIBRARY_LIMITS)  # type: ignore[arg-type]  # of mixed types


def to_grammar(kind: str, text: str) -> str:
    """Return a constraint in the library's form.

    Raises:
        ValueError: it is not of its kind.
    """
    match kind:
        case "json_object":
            return LLMatcher.grammar_from_json_schema('{"type": "object"}', overrides=JSON_OPTIONS)
        case "json_schema":
            return LLMatcher.grammar_from_json_schema(text, overrides=JSON_OPTIONS)
        case "regex":
            return LLMatcher.grammar_from_regex(text)
        case "choice":
            return LLMatcher.grammar_from_regex("|".join(map(_literal, json.loads(text))))
        case "grammar":
            is_gbnf = _GBNF_RULE.search(text) is not None
            return LLMatcher.grammar_from_lark(gbnf_to_lark(text) if is_gbnf else text)
    raise ValueError(f"unknown kind {kind}")


def main() -> None:
    """Answer requests until the input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    first = json.loads(requests.readline())
    definition = requests.read(first["num_bytes"]).decode()
    tokenizer = LLTokenizer(
        definition,
        n_vocab=first["vocab_size"],
        eos_token=first["eos_token_ids"],
        slices=LLTokenizer.json_slices(),
    )
    _answer(answers, {})
    stack_size(_STACK_BYTES)
    for line in requests:
        _answer(answers, _on_small_stack(partial(_try, tokenizer, json.loads(line))))


def _answer(answers: BinaryIO, value: dict[str, str]) -> None:
    answers.write(json.dumps(value).encode() + b"\n")
    answers.flush()


def _on_small_stack(work: Callable[[], dict[str, str]]) -> dict[str, str]:
    results: list[dict[str, str]] = []
    thread = Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0] if results else {"error": "it cannot be compiled"}


def _try(tokenizer: LLTokenizer, request: dict[str, Any]) -> dict[str, str]:
    """Compile, and take a few steps: random ones, but always the same."""
    _limit_resources(request["max_bytes"])
    try:
        grammar = to_grammar(request["kind"], request["text"])
    except Exception as error:  # whatever the converters make of it
        return {"error": str(error)}
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=library_limits())
    random = Random(0)
    for _ in range(_NUM_STEPS):
        mask = b"" if matcher.is_error() else matcher.compute_bitmask()
        if matcher.is_error() or matcher.is_stopped():
            break
        matcher.consume_token(_any_allowed(mask, random))
    return {"error": matcher.get_error()} if matcher.is_error() else {"grammar": grammar}


def _any_allowed(mask: bytes, random: Random) -> int:
    places = [index for index, byte in enumerate(mask) if byte]
    if not places:
        return 0
    place = random.choice(places)
    return place * 8 + random.choice([bit for bit in range(8) if mask[place] >> bit & 1])


def _limit_resources(max_bytes: int) -> None:
    """Bound what the next trial adds; Linux only, elsewhere the clock of the parent must do."""
    if not sys.platform.startswith("linux"):
        return
    import resource  # there is none on Windows

    num_pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = num_pages * resource.getpagesize() + max_bytes
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(usage.ru_utime + usage.ru_stime) + _CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _literal(text: str) -> str:
    """Return a pattern for exactly this text."""
    return "".join(
        character if character.isascii() and character.isalnum() else f"\\x{{{ord(character):x}}}"
        for character in text
    )


if __name__ == "__main__":
    main()
