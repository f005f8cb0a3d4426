"""Items of a response's input as messages."""

from typing import Any

import pytest

from app.api.responses.input_items import read_input
from app.inference.requests import ChatMessage, ChatToolCall

ADD = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
PING = {"type": "function_call", "call_id": "c2", "name": "ping", "arguments": "{}", "id": "fc_1"}
ADDED, PINGED = ChatToolCall("c1", "add", "{}"), ChatToolCall("c2", "ping", "{}")


def test_a_text_is_the_users() -> None:
    """The shortest form."""
    assert read_input("Hi") == [ChatMessage("user", "Hi")]


def test_what_an_assistant_says_and_calls_is_one_message() -> None:
    """Templates know no other form, and results follow their calls."""
    said = {"role": "assistant", "content": [{"type": "output_text", "text": "So."}]}
    results = [
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "pong"}],
        },
    ]
    thought = {"type": "reasoning", "summary": []}

    messages = read_input([{"role": "user", "content": "Hi"}, thought, said, ADD, PING, *results])

    assert messages == [
        ChatMessage("user", "Hi"),
        ChatMessage("assistant", "So.", (ADDED, PINGED)),
        ChatMessage("tool", "2", tool_call_id="c1"),
        ChatMessage("tool", "pong", tool_call_id="c2"),
    ]


def test_calls_behind_a_result_are_another_message() -> None:
    """And so is one with nothing said before."""
    result = {"type": "function_call_output", "call_id": "c1", "output": "2"}

    assert read_input([ADD, result, PING]) == [
        ChatMessage("assistant", "", (ADDED,)),
        ChatMessage("tool", "2", tool_call_id="c1"),
        ChatMessage("assistant", "", (PINGED,)),
    ]


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ({"type": "web_search_call"}, "web_search_call"),
        ({"type": ["message"]}, "not supported"),
        ({"role": "tool", "content": "x"}, "one of the roles"),
        ({"role": "user"}, "as content"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input_image"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "a text in a part"),
        ({"type": "function_call", "call_id": "c1", "name": "add"}, "arguments"),
        ({"type": "function_call_output", "output": "2"}, "call_id"),
        ({"type": "function_call_output", "call_id": "c1"}, "as output"),
        (7, "expected an object as item, got a number"),
    ],
)
def test_what_is_wrong_with_an_item_is_told(item: Any, told: str) -> None:
    """In one sentence."""
    with pytest.raises(ValueError, match=told):
        read_input([item])
