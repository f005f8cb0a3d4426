"""Calls of tools in tags, as Qwen3-Coder writes them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.output.formats import OutputFormat, TextParameter, text_parameters
from app.output.parser import AnswerParser
from app.output.parts import OutputPart, TextPart, ToolCallPart

TEXTS = (
    TextParameter("write", "path"),
    TextParameter("write", "mode", is_nullable=True),
    TextParameter("write", "body"),
)
FORMAT = OutputFormat("qwen_coder", ("write", "ping"), text_parameters=TEXTS)


def call(name: str, **values: str) -> str:
    """Return a call as the model writes it."""
    parameters = "".join(
        f"<parameter={key}>\n{text}\n</parameter>\n" for key, text in values.items()
    )
    return f"<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>"


def parts_of(deltas: Iterable[str]) -> list[OutputPart]:
    parser = AnswerParser(FORMAT, "answer")
    return [part for delta in deltas for part in parser.push(delta)] + list(parser.finish())


def shown(deltas: Iterable[str]) -> list[tuple[str, str]]:
    """Return texts, and calls with their arguments, in order; neighbours are joined."""
    found: list[tuple[str, str]] = []
    last: object = None
    for part in parts_of(deltas):
        kind = part.index if isinstance(part, ToolCallPart) else "text"
        name = f"call {part.name}" if isinstance(part, ToolCallPart) else "text"
        text = part.arguments_delta if isinstance(part, ToolCallPart) else getattr(part, "text", "")
        found[-1:] = (
            [(found[-1][0], found[-1][1] + text)] if kind == last else [*found[-1:], (name, text)]
        )
        last = kind
    return found


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Just text.\n", [("text", "Just text.\n")]),
        (
            "Let me see.\n" + call("write", path="5", size="5", ok="True"),
            [("text", "Let me see."), ("call write", '{"path": "5", "size": 5, "ok": true}')],
        ),
        (
            call("ping") + "\n" + call("write", body='a\n\n  "b"\n', more='{"x": [1]}') + " So.",
            [
                ("call ping", "{}"),
                ("call write", '{"body": "a\\n\\n  \\"b\\"\\n", "more": {"x": [1]}}'),
                ("text", " So."),
            ],
        ),
        (call("write", mode="null"), [("call write", '{"mode": null}')]),
        (call("write", mode="nullable"), [("call write", '{"mode": "nullable"}')]),
        (call("write", mode=""), [("call write", '{"mode": ""}')]),
        (call("write", path="null"), [("call write", '{"path": "null"}')]),
        (call("write", size="NaN", to="a b"), [("call write", '{"size": "NaN", "to": "a b"}')]),
        ("<function=ping></function>", [("call ping", "{}")]),
        ("<tool_call><function=ping></tool_call>.", [("call ping", "{}"), ("text", ".")]),
        (
            "<tool_call><function=write>junk<parameter=path>a</parameter>junk</function>",
            [("call write", '{"path": "a"}')],
        ),
        (
            "<tool_call>\n<function=write>\n<parameter=path>\nab\n</para",
            [("call write", '{"path": "ab\\n</para')],
        ),
        ("a <tool_call> b", [("text", "a <tool_call> b")]),
        ("<tool_call>\n<function=other>", [("text", "<tool_call>\n<function=other>")]),
        ("a <function", [("text", "a <function")]),
    ],
)
def test_calls_are_tags_with_a_tag_for_each_parameter(
    text: str, parts: list[tuple[str, str]]
) -> None:
    """What is marked as a call and is none stays text; one that broke off is what there is."""
    assert shown([text]) == parts
    assert shown(text) == parts


def test_texts_come_as_they_are_made() -> None:
    """A file that a model writes is the longest thing it says."""
    parser = AnswerParser(FORMAT, "answer")
    pieces = [
        "<tool_call>\n<function=write>\n<parameter=body>",
        "\nde",
        "f f():\n",
        "  pass",
        "\n<",
    ]

    deltas = []
    for piece in pieces:
        parts = [part for part in parser.push(piece) if isinstance(part, ToolCallPart)]
        deltas.append("".join(part.arguments_delta for part in parts))

    assert deltas == ['{"body": ', '"de', "f f():", "\\n  pass", ""]


FRAGMENTS = [
    *("<tool_call>", "</tool_call>", "<function=write>", "<function=no>", "</function>"),
    *("<parameter=path>", "<parameter=mode>", "<parameter=n>", "</parameter>"),
    *("null", "5", "{}", "text", "\n", "  ", "<", ">", "ä", '"'),
]


@given(
    fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=16),
    cuts=st.lists(st.integers(0, 400), max_size=40),
)
def test_how_the_text_is_cut_does_not_matter(fragments: list[str], cuts: list[int]) -> None:
    """Any deltas of one text give the same parts, and so does one character at a time."""
    text = "".join(fragments)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})

    whole = shown([text])

    assert shown([text[start:end] for start, end in pairwise(places)]) == whole
    assert shown(text) == whole


@given(st.text(alphabet="<tol_cahfunion=wrep>/ \n", max_size=60))
def test_no_text_is_lost(text: str) -> None:
    """What holds no call comes out as it went in."""
    parts = parts_of(text)

    if not any(isinstance(part, ToolCallPart) for part in parts):
        assert "".join(part.text for part in parts if isinstance(part, TextPart)) == text


VALUES = st.integers() | st.booleans() | st.none() | st.lists(st.text(max_size=3), max_size=2)


@given(
    path=st.text(max_size=20).filter(lambda text: "</parameter>" not in text),
    mode=st.none() | st.text(max_size=20).filter(lambda text: text != "null"),
    others=st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), VALUES, max_size=3),
)
def test_whatever_the_arguments_are_they_arrive(
    path: str, mode: str | None, others: dict[str, object]
) -> None:
    """As the model's template writes them: texts as they are, all else as JSON."""
    values: dict[str, object] = {**others, "path": path, "mode": mode}
    written = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }

    ((_, arguments),) = shown([call("write", **written)])

    assert json.loads(arguments) == values


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"type": "string", "enum": ["a"]}, [False]),
        ({"type": ["string", "null"]}, [True]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, [True]),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, []),
        ({"anyOf": [{"type": "string"}, {}]}, []),
        ({"type": "integer"}, []),
        ({}, []),
        (True, []),
    ],
)
def test_schemas_tell_which_parameters_are_texts(schema: Any, found: Sequence[bool]) -> None:
    """Where they leave it open, the value itself has to tell."""
    arguments: Mapping[str, Any] = {"type": "object", "properties": {"p": schema}}

    assert [each.is_nullable for each in text_parameters("t", arguments)] == found
    assert list(text_parameters("t", {"properties": []})) == []
