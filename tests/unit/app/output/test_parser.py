import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.output.formats import (
    JsonCallStyle,
    OutputFormat,
    ToolStyle,
    marks_reasoning,
    style_of_template,
)
from app.output.parser import AnswerParser
from app.output.parts import OutputPart, ReasoningPart, TextPart, ToolCallPart

NAMES = ("add", "get_weather")


def parse(output_format: OutputFormat, deltas: Sequence[str]) -> list[OutputPart]:
    """Return all parts; neighbours that say more of the same are one."""
    parser = AnswerParser(output_format, "answer")
    parts = [part for delta in deltas for part in parser.push(delta)] + list(parser.finish())
    joined: list[OutputPart] = []
    for part in parts:
        match joined[-1:], part:
            case [TextPart(old)], TextPart(new):
                joined[-1] = TextPart(old + new)
            case [ReasoningPart(old)], ReasoningPart(new):
                joined[-1] = ReasoningPart(old + new)
            case [ToolCallPart() as old_call], ToolCallPart() as new_call if (
                old_call.index == new_call.index
            ):
                arguments = old_call.arguments_delta + new_call.arguments_delta
                joined[-1] = ToolCallPart(old_call.index, old_call.id, old_call.name, arguments)
            case _:
                joined.append(part)
    return joined


def shown(style: ToolStyle | None, text: str, *, thinks: bool = False) -> list[tuple[str, ...]]:
    """Return the parts of a text without ids, in short."""
    found = parse(OutputFormat(style, NAMES, has_reasoning=thinks), [text])
    return [
        ("call", part.name, part.arguments_delta)
        if isinstance(part, ToolCallPart)
        else (("text" if isinstance(part, TextPart) else "thought"), part.text)
        for part in found
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Just text.\n", [("text", "Just text.\n")]),
        (
            'Let me see.\n<tool_call>\n{"name": "add", "arguments": {"a": [1, "}"]}}\n</tool_call>',
            [("text", "Let me see."), ("call", "add", '{"a": [1, "}"]}')],
        ),
        (
            '<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>\n'
            '<tool_call>{"name": "get_weather"}</tool_call>\n',
            [("call", "add", '{"a": 1}'), ("call", "get_weather", "{}")],
        ),
        (
            '<tool_call>{"name": "add", "arguments": "{\\"a\\": \\"\\u00e4\\"}"}</tool_call>',
            [("call", "add", '{"a": "ä"}')],
        ),
        (
            '<tool_call>{"id": 7, "name": "add", "arguments": null, "x": {"name": "y"}}',
            [("call", "add", "null")],
        ),
        ("a <tool_call> b", [("text", "a <tool_call> b")]),
        ('<tool_call>{"a": 1}</tool_call>', [("text", '<tool_call>{"a": 1}</tool_call>')]),
        (
            '<tool_call>{"name": "add", "arguments": {"a": 1',
            [("call", "add", '{"a": 1')],
        ),
        (
            '<tool_call>{"name": "add", "arguments": {} junk</tool_call> Done.',
            [("call", "add", "{}"), ("text", " Done.")],
        ),
        ("<tool_c", [("text", "<tool_c")]),
    ],
)
def test_hermes_calls_stand_between_marks(text: str, parts: list[tuple[str, ...]]) -> None:
    """What is marked as a call and is none stays text; one that broke off is what there is."""
    assert shown("hermes", text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            'Well. [TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}, {"name": "add"}]',
            [("text", "Well."), ("call", "add", '{"a": 1}'), ("call", "add", "{}")],
        ),
        (
            '[TOOL_CALLS]add[ARGS]{"a": {"b": 2}}[TOOL_CALLS]get_weather{"c": "}"}',
            [("call", "add", '{"a": {"b": 2}}'), ("call", "get_weather", '{"c": "}"}')],
        ),
        ('[TOOL_CALLS]add[CALL_ID]123456789[ARGS]{"a": 1}', [("call", "add", '{"a": 1}')]),
        ("[TOOL_CALLS] nothing of it", [("text", "[TOOL_CALLS] nothing of it")]),
        ("[TOOL_CALLS] [] then", [("text", "[TOOL_CALLS] [] then")]),
    ],
)
def test_mistral_calls_stand_behind_a_mark(text: str, parts: list[tuple[str, ...]]) -> None:
    """As a list, or each with its name in front."""
    assert shown("mistral", text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('{"name": "add", "parameters": {"a": 1}}', [("call", "add", '{"a": 1}')]),
        (
            ' <|python_tag|>{"name": "add", "parameters": {}}; {"name": "get_weather"}',
            [("call", "add", "{}"), ("call", "get_weather", "{}")],
        ),
        ('{"name": "Ada", "age": 36}', [("text", '{"name": "Ada", "age": 36}')]),
        ('Sure: {"name": "add"}', [("text", 'Sure: {"name": "add"}')]),
        ('{"name": "ad', [("text", '{"name": "ad')]),
        ("<|python_tag|>print(1)", [("text", "<|python_tag|>print(1)")]),
    ],
)
def test_llama_calls_are_all_of_the_text(text: str, parts: list[tuple[str, ...]]) -> None:
    """JSON that names no known tool is an answer."""
    assert shown("llama", text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "<think>\nHm.\n\nYes.\n</think>\n\nAn answer.",
            [("thought", "Hm.\n\nYes."), ("text", "An answer.")],
        ),
        ("\n<think> </think>Yes", [("text", "Yes")]),
        ("<think>Hm", [("thought", "Hm")]),
        (" No <think>x</think>", [("text", " No <think>x</think>")]),
        ("<thi", [("text", "<thi")]),
        ("<think>a</think>", [("thought", "a")]),
        (
            '<think>a</think>\n<tool_call>{"name": "add"}</tool_call>',
            [("thought", "a"), ("call", "add", "{}")],
        ),
    ],
)
def test_reasoning_is_what_the_text_begins_with(text: str, parts: list[tuple[str, ...]]) -> None:
    """Blanks around it belong to nobody."""
    assert shown("hermes", text, thinks=True) == parts


def test_reasoning_may_have_begun_in_the_prompt() -> None:
    """Some templates open it for the model."""
    output_format = OutputFormat(has_reasoning=True, starts_in_reasoning=True)

    assert parse(output_format, ["Hm", "m.\n</thi", "nk>\n\nYes"]) == [
        ReasoningPart("Hmm."),
        TextPart("Yes"),
    ]


def test_arguments_come_as_they_are_made() -> None:
    """Who streams sees the name first, and then each piece."""
    parser = AnswerParser(OutputFormat("hermes", NAMES), "answer")
    pieces = ['<tool_call>\n{"name": "add", "argu', 'ments": {"a', '": 1', "23}", "}\n</tool_call>"]

    parts = [[p for p in parser.push(piece) if isinstance(p, ToolCallPart)] for piece in pieces]

    assert [[(p.name, p.arguments_delta) for p in found] for found in parts] == [
        [("add", "")],
        [("", '{"a')],
        [("", '": 1')],
        [("", "23}")],
        [],
    ]


def test_calls_after_the_first_are_left_out_if_the_caller_wants_one() -> None:
    """A caller that cannot run two at once has said so."""
    text = '<tool_call>{"name": "add"}</tool_call><tool_call>{"name": "add"}</tool_call> So.'

    parts = parse(OutputFormat("hermes", NAMES, is_parallel=False), [text])

    assert [type(part) for part in parts] == [ToolCallPart, TextPart]


def test_ids_are_the_same_when_the_text_is_read_again() -> None:
    """A resumed stream must not rename its calls; two calls have two ids."""
    text = '<tool_call>{"name": "add"}</tool_call><tool_call>{"name": "add"}</tool_call>'

    answers = [parse(OutputFormat("hermes", NAMES), [text]) for _ in range(2)]
    ids = [[part.id for part in parts if isinstance(part, ToolCallPart)] for parts in answers]

    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


FRAGMENTS = [
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<think>",
    "</think>",
    '{"name": "add", "arguments": {"a": "\\"}", "b": [1, {}]}}',
    '{"arguments": "{}", "name": "add"}',
    '[{"name": "get_weather", "parameters": {}}, ',
    "add[ARGS]{}",
    '{"name": "unknown"}',
    '{"name": ',
    "]",
    "}",
    "\n",
    "  ",
    "; ",
    "text",
    "<",
    "ä",
]


@given(
    style=st.sampled_from(["hermes", "mistral", "llama", None]),
    fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=12),
    cuts=st.lists(st.integers(0, 400), max_size=40),
    thinks=st.sampled_from([(False, False), (True, False), (True, True)]),
)
def test_how_the_text_is_cut_does_not_matter(
    style: ToolStyle | None, fragments: list[str], cuts: list[int], thinks: tuple[bool, bool]
) -> None:
    """Any deltas of one text give the same parts, and so does one character at a time."""
    text = "".join(fragments)
    output_format = OutputFormat(style, NAMES, True, *thinks)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    deltas = [text[start:end] for start, end in pairwise(places)]

    whole = parse(output_format, [text])

    assert parse(output_format, deltas) == whole
    assert parse(output_format, list(text)) == whole


VALUES = st.text(max_size=9) | st.integers() | st.none() | st.lists(st.text(max_size=3), max_size=2)
ARGUMENTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=3)


@given(st.lists(ARGUMENTS, min_size=1, max_size=3), st.booleans())
def test_whatever_the_arguments_are_they_arrive(
    calls: list[dict[str, object]], is_ascii: bool
) -> None:
    """In every style."""
    objects = [
        json.dumps({"name": "add", "arguments": call}, ensure_ascii=is_ascii) for call in calls
    ]
    texts: dict[JsonCallStyle, str] = {
        "hermes": "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in objects),
        "mistral": f"[TOOL_CALLS][{', '.join(objects)}]",
        "llama": "; ".join(objects),
    }

    for style, text in texts.items():
        parts = parse(OutputFormat(style, NAMES), [text])
        assert [
            json.loads(p.arguments_delta) for p in parts if isinstance(p, ToolCallPart)
        ] == calls


@given(st.text(alphabet='<tol_cahink>|pyg[TOL_CS]{"nme: ad}/ \n', max_size=60))
def test_no_text_is_lost(text: str) -> None:
    """What holds no call and no reasoning comes out as it went in."""
    for style in ("hermes", "mistral", "llama"):
        parts = parse(OutputFormat(style, NAMES), list(text))
        if not any(isinstance(part, ToolCallPart) for part in parts):
            assert "".join(part.text for part in parts if isinstance(part, TextPart)) == text


@pytest.mark.parametrize(
    ("template", "style"),
    [
        ("{{ '<tool_call>' }}", "hermes"),
        ("{{ '[TOOL_CALLS]' }}", "mistral"),
        ("{{ '<|python_tag|>' }}", "llama"),
        ("{{ messages }}", None),
        ("{{ '<tool_call><function=' }}", "qwen_coder"),
        ("{{ '<tool_call><arg_key>' }}", None),
    ],
)
def test_the_template_tells_the_style(template: str, style: ToolStyle | None) -> None:
    """By the mark that it writes calls with."""
    assert style_of_template(template) == style
    assert marks_reasoning(template + "{{ content.split('</think>') }}")
