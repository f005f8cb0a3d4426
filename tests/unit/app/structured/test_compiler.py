import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from tokenizers import Tokenizer

from app.inference.requests import OutputConstraint
from app.structured import GrammarCompiler, GrammarLimits, TokenizerDefinition
from app.structured.errors import (
    GrammarFailedError,
    GrammarsUnavailableError,
    GrammarTooLargeError,
    InvalidGrammarError,
)
from app.structured.matcher import GrammarMatcher
from tests.harness.tiny_models import byte_tokenizer

TOKENIZER = byte_tokenizer()
VOCAB_SIZE, EOS = len(TOKENIZER), 2
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mood": {"enum": ["good", "bad"]},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/pet"}, "maxItems": 2},
    },
    "required": ["name", "age", "mood", "pets"],
    "additionalProperties": False,
    "$defs": {
        "pet": {
            "type": "object",
            "properties": {"legs": {"type": "integer", "maximum": 8, "minimum": 0}},
            "required": ["legs"],
            "additionalProperties": False,
        }
    },
}


def definition(vocab_size: int = VOCAB_SIZE) -> TokenizerDefinition:
    return TokenizerDefinition(TOKENIZER.backend_tokenizer.to_str, vocab_size, (EOS,))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def compiler() -> AsyncIterator[GrammarCompiler]:
    compiler = GrammarCompiler(definition())
    yield compiler
    await compiler.close()


def schema(value: dict[str, Any]) -> OutputConstraint:
    return OutputConstraint("json_schema", json.dumps(value))


def chain(length: int) -> OutputConstraint:
    """A schema whose definitions refer to each other; each is harmless."""
    definitions: dict[str, Any] = {
        f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(length)
    }
    definitions[f"d{length}"] = {"type": "string"}
    return schema({"$defs": definitions, "$ref": "#/$defs/d0"})


def allowed(matcher: GrammarMatcher, vocab_size: int = VOCAB_SIZE) -> list[int]:
    mask = torch.full(((vocab_size + 31) // 32,), -1, dtype=torch.int32)
    matcher.fill_mask(mask)
    words = [word & 0xFFFFFFFF for word in mask.tolist()]
    return [i for i in range(32 * len(words)) if words[i // 32] >> i % 32 & 1]


def random_output(matcher: GrammarMatcher, seed: int, max_tokens: int = 2000) -> str:
    """What a model that knows nothing says, until the grammar or the model ends it."""
    chance, ids = random.Random(seed), list[int]()
    while not matcher.is_finished and len(ids) < max_tokens:
        token_id = chance.choice(allowed(matcher))
        if token_id == EOS:
            break
        matcher.accept(token_id)
        ids.append(token_id)
    return str(TOKENIZER.decode(ids))


@pytest.mark.parametrize("seed", range(8))
async def test_any_output_fits_the_schema(compiler: GrammarCompiler, seed: int) -> None:
    """Whatever the tokens' chances are."""
    text = random_output(await compiler.matcher(schema(PERSON)), seed)

    Draft202012Validator(PERSON).validate(json.loads(text))


async def test_any_output_of_the_demo_model_fits_the_schema() -> None:
    """Its tokens are words and pieces of words, which cross the borders of the grammar's parts."""
    tokenizer = Tokenizer.from_file("models/demo/tokenizer.json")
    compiler = GrammarCompiler(TokenizerDefinition(tokenizer.to_str, 4096, (EOS,)))
    for seed in range(8):
        matcher, chance, ids = (
            await compiler.matcher(schema(PERSON)),
            random.Random(seed),
            list[int](),
        )
        while not matcher.is_finished and len(ids) < 2000:
            ids.append(chance.choice(allowed(matcher, 4096)))
            matcher.accept(ids[-1])
        Draft202012Validator(PERSON).validate(json.loads(tokenizer.decode(ids)))
    await compiler.close()


@pytest.mark.parametrize("seed", range(4))
async def test_any_output_fits_the_pattern(compiler: GrammarCompiler, seed: int) -> None:
    """As a whole, with anchors or without."""
    pattern = r"(\d{4}-\d\d|[a-f]{2,5})(/x)?"

    for text in (pattern, f"^{pattern}$"):
        output = random_output(await compiler.matcher(OutputConstraint("regex", text)), seed)
        assert re.fullmatch(pattern, output, re.ASCII | re.DOTALL) or not output.isascii()


async def test_a_choice_is_one_of_them(compiler: GrammarCompiler) -> None:
    """Characters with a meaning in patterns and grammars mean themselves."""
    choices = ["a|b", 'say "hi"', "back\\slash", "(", "ä\n", "\x7f", "😀", "a"]
    constraint = OutputConstraint("choice", json.dumps(choices))

    outputs = {random_output(await compiler.matcher(constraint), seed) for seed in range(60)}

    assert outputs == set(choices)


@pytest.mark.parametrize(
    "grammar",
    ['start: "x" digit+ "y"\ndigit: /[0-9]/', 'root ::= "x" digit+ "y"\ndigit ::= [0-9]'],
)
async def test_grammars_are_written_in_either_form(compiler: GrammarCompiler, grammar: str) -> None:
    """Lark's, and the one of llama.cpp."""
    output = random_output(await compiler.matcher(OutputConstraint("grammar", grammar)), 1)

    assert re.fullmatch(r"x[0-9]+y", output)


async def test_any_json_object_begins_as_one(compiler: GrammarCompiler) -> None:
    """And with nothing in front of it."""
    matcher = await compiler.matcher(OutputConstraint("json_object"))

    assert TOKENIZER.decode(allowed(matcher)) == "{"


async def test_blanks_end(compiler: GrammarCompiler) -> None:
    """A model that likes them would otherwise print them until its tokens are used up."""
    matcher = await compiler.matcher(schema(PERSON))
    brace, blank = TOKENIZER.encode("{", add_special_tokens=False)[0], TOKENIZER.encode(" ")[-1]
    matcher.accept(brace)

    for _ in range(40):
        matcher.accept(blank)

    assert blank not in allowed(matcher)


async def test_the_end_is_allowed_where_the_output_may_end(compiler: GrammarCompiler) -> None:
    """And nowhere else; where it must end, the matcher is finished."""
    matcher = await compiler.matcher(OutputConstraint("regex", "ab?"))
    a, b = TOKENIZER.encode("ab", add_special_tokens=False)[-2:]

    assert allowed(matcher) == [a]
    matcher.accept(a)
    assert allowed(matcher) == [EOS, b]
    assert not matcher.is_finished
    matcher.accept(b)
    assert matcher.is_finished


async def test_a_token_that_was_not_allowed_is_an_error(compiler: GrammarCompiler) -> None:
    """It may come from a journal that another version wrote."""
    matcher = await compiler.matcher(OutputConstraint("regex", "a"))

    with pytest.raises(GrammarFailedError):
        matcher.accept(TOKENIZER.encode("b")[-1])


@pytest.mark.parametrize("logits", [VOCAB_SIZE - 40, VOCAB_SIZE + 200])
async def test_masks_are_as_wide_as_the_logits(compiler: GrammarCompiler, logits: int) -> None:
    """A model may have more logits than tokens, or fewer: what only one has, never comes."""
    matcher = await compiler.matcher(OutputConstraint("regex", "[a-z!]"))

    tokens = allowed(matcher, logits)

    assert set(tokens) <= set(allowed(matcher))
    assert TOKENIZER.encode("!")[-1] in tokens


@pytest.mark.parametrize(
    "constraint",
    [
        OutputConstraint("regex", "(a"),
        OutputConstraint("regex", r"(a)\1"),
        OutputConstraint("grammar", "start: b"),
        OutputConstraint("grammar", "root ::= ("),
        schema({"$ref": "http://169.254.169.254/latest"}),
        schema({"type": "object", "uniqueItems": True, "not": {}}),
        schema({"allOf": [{"const": 1}, {"const": 2}]}),
        schema({"$ref": "#/$defs/missing"}),
        schema({"type": "strange"}),
    ],
)
async def test_what_cannot_be_kept_to_is_refused(
    compiler: GrammarCompiler, constraint: OutputConstraint
) -> None:
    """In one line, at once, and again when it comes again."""
    for _ in range(2):
        with pytest.raises(InvalidGrammarError) as caught:
            await compiler.prepare(constraint)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


async def test_a_schema_that_crashes_the_library_costs_its_sender_only(
    compiler: GrammarCompiler,
) -> None:
    """The native stack overflows in another process, and the next schema finds a new one."""
    with pytest.raises(GrammarTooLargeError):
        await compiler.prepare(chain(1000))

    await compiler.prepare(schema({"type": "string", "maxLength": 3}))


async def test_a_schema_that_takes_too_long_is_given_up() -> None:
    """By the clock, whatever it is that takes so long."""
    properties = {f"p{i}": {"type": "integer"} for i in range(1500)}
    compiler = GrammarCompiler(definition(), GrammarLimits(compile_s=0.05))
    try:
        await compiler.prepare(OutputConstraint("regex", "a"))  # the process has started
        with pytest.raises(GrammarTooLargeError, match=r"longer than 0\.05 s"):
            await compiler.prepare(schema({"type": "object", "properties": properties}))
    finally:
        await compiler.close()


async def test_slow_grammars_of_one_tenant_do_not_keep_others_waiting() -> None:
    """They are tried one after the other; there is a place for somebody else."""
    slow = [
        schema({"properties": {f"p{i}": {"type": "integer", "minimum": n} for i in range(1200)}})
        for n in range(6)
    ]
    compiler = GrammarCompiler(definition(), GrammarLimits(compile_s=20))
    await compiler.prepare(OutputConstraint("regex", "b"), "other")
    hostile = [asyncio.create_task(compiler.prepare(s, "hostile")) for s in slow]
    try:
        await asyncio.wait(hostile, timeout=0.01)
        await compiler.prepare(OutputConstraint("regex", "a"), "other")

        assert not hostile[-1].done()
    finally:
        for task in hostile:
            task.cancel()
        await asyncio.gather(*hostile, return_exceptions=True)
        await compiler.close()


async def test_a_tokenizer_of_unknown_kind_is_named_as_such() -> None:
    """Nobody can tell which bytes its tokens are."""
    compiler = GrammarCompiler(TokenizerDefinition(lambda: "{}", VOCAB_SIZE, (EOS,)))

    with pytest.raises(GrammarsUnavailableError):
        await compiler.prepare(OutputConstraint("regex", "a"))
    await compiler.close()
