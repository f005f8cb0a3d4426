import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.inference.chat_templates import ChatStyle
from app.inference.requests import ChatTool, OutputConstraint
from app.output.formats import OutputFormat, ToolStyle
from app.output.parser import AnswerParser
from app.output.parts import TextPart, ToolCallPart
from app.structured import GrammarCompiler, TokenizerDefinition
from app.structured.tool_grammars import (
    MAX_CALLS,
    calls_constraint,
    calls_or_answer_constraint,
)
from tests.harness.tiny_models import byte_tokenizer
from tests.unit.app.structured.test_compiler import allowed

EOS = 2
TOOLS = (
    ChatTool(
        "add",
        parameters={
            "type": "object",
            "properties": {"a": {"type": "integer"}, "note": {"type": "string", "maxLength": 4}},
            "required": ["a"],
            "additionalProperties": False,
        },
    ),
    ChatTool("ping", parameters={"type": "object", "additionalProperties": False}),
)
PLAIN, MARKING = byte_tokenizer(), byte_tokenizer()
MARKING.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]"]})
MARKING.add_tokens(["<tool_call>"])
MARKS = {text: MARKING.convert_tokens_to_ids(text) for text in ("[TOOL_CALLS]", "<tool_call>")}


@asynccontextmanager
async def compiler_of(tokenizer: Any) -> AsyncIterator[GrammarCompiler]:
    write = tokenizer.backend_tokenizer.to_str
    compiler = GrammarCompiler(TokenizerDefinition(write, len(tokenizer), (EOS,)))
    yield compiler
    await compiler.close()


async def random_texts(tokenizer: Any, constraint: OutputConstraint, num_texts: int) -> list[str]:
    """Return the texts of outputs whose tokens are chosen by chance, special ones included."""
    chance, texts = random.Random(0), []
    async with compiler_of(tokenizer) as compiler:
        for _ in range(num_texts):
            matcher, ids = await compiler.matcher(constraint), list[int]()
            while not matcher.is_finished:
                token_id = chance.choice(allowed(matcher, len(tokenizer)))
                matcher.accept(token_id)
                ids += [token_id] if token_id != EOS else []
            texts.append(str(tokenizer.decode(ids)))
    return texts


def calls_of(style: ToolStyle, text: str) -> Sequence[tuple[str, object]]:
    """Return the names and arguments of all calls, as a caller would find them."""
    parser = AnswerParser(OutputFormat(style, tuple(tool.name for tool in TOOLS)), "answer")
    calls: dict[int, list[str]] = {}
    for part in [*parser.push(text), *parser.finish()]:
        assert isinstance(part, ToolCallPart), part
        call = calls.setdefault(part.index, ["", ""])
        call[0] += part.name
        call[1] += part.arguments_delta
    return [(name, json.loads(arguments)) for name, arguments in calls.values()]


@pytest.mark.parametrize("style", ["hermes", "mistral", "llama"])
@pytest.mark.parametrize("has_marks", [True, False])
async def test_any_output_is_calls_that_fit_their_tools(style: ToolStyle, has_marks: bool) -> None:
    """Whatever the tokens' chances, and whether or not the marks are tokens."""
    tokenizer, marks = (MARKING, MARKS) if has_marks else (PLAIN, {})
    constraint = calls_constraint(ChatStyle(style, mark_ids=marks), TOOLS, is_parallel=True)

    for text in await random_texts(tokenizer, constraint, 6):
        calls = calls_of(style, text)

        assert 1 <= len(calls) <= MAX_CALLS
        for name, arguments in calls:
            schema = next(tool.parameters for tool in TOOLS if tool.name == name)
            Draft202012Validator(schema).validate(arguments)


@pytest.mark.parametrize("style", ["hermes", "mistral", "llama"])
async def test_one_call_may_be_all_there_is(style: ToolStyle) -> None:
    """A named tool is called once."""
    constraint = calls_constraint(ChatStyle(style), TOOLS[1:], is_parallel=False)

    texts = await random_texts(PLAIN, constraint, 4)

    assert [[name for name, _ in calls_of(style, text)] for text in texts] == [["ping"]] * 4


@pytest.mark.parametrize("style", ["hermes", "mistral", "llama"])
@pytest.mark.parametrize(
    "answer",
    [
        OutputConstraint("json_schema", '{"type": "object", "required": ["sky"]}'),
        OutputConstraint("json_object"),
        OutputConstraint("choice", '["yes", "n\\u00e4"]'),
    ],
    ids=lambda answer: answer.kind,
)
async def test_an_output_is_calls_or_the_answer(style: ToolStyle, answer: OutputConstraint) -> None:
    """Never a bit of both, and both are possible."""
    names = tuple(tool.name for tool in TOOLS)
    constraint = calls_or_answer_constraint(ChatStyle(style), TOOLS, answer, is_parallel=True)
    assert constraint is not None

    found = set()
    for text in await random_texts(PLAIN, constraint, 20):
        parser = AnswerParser(OutputFormat(style, names), "answer")
        parts = [*parser.push(text), *parser.finish()]
        kinds = {type(part) for part in parts}
        assert len(kinds) == 1
        found |= kinds
        if TextPart in kinds and answer.kind == "choice":
            assert text in ("yes", "nä")
        elif TextPart in kinds:
            assert "sky" in json.loads(text) or answer.kind == "json_object"
    assert found == {ToolCallPart, TextPart}


@pytest.mark.parametrize("text", ["[]", "{", '["a", 1]'])
def test_what_is_no_schema_is_left_to_who_refuses_it(text: str) -> None:
    """It has the words for what is wrong."""
    kind: Any = "choice" if text.startswith('["') else "json_schema"
    answer = OutputConstraint(kind, text)

    assert calls_or_answer_constraint(ChatStyle(), TOOLS, answer, is_parallel=True) is answer


@pytest.mark.parametrize("kind", ["regex", "grammar"])
def test_patterns_and_grammars_do_not_go_together_with_calls(kind: Any) -> None:
    """Their rules might have the names of ours."""
    answer = OutputConstraint(kind, "start: calls")

    assert calls_or_answer_constraint(ChatStyle(), TOOLS, answer, is_parallel=True) is None


async def test_schemas_may_hold_whatever_looks_like_a_grammar() -> None:
    """Names and descriptions are texts; a tool without parameters takes any object."""
    schema = {**TOOLS[0].parameters, "description": 'root ::= "x"\nroot ::= "'}
    tools = (replace(TOOLS[0], parameters=schema), ChatTool("any"))

    constraint = calls_constraint(ChatStyle("llama"), tools, is_parallel=False)

    async with compiler_of(PLAIN) as compiler:
        await compiler.prepare(constraint)
