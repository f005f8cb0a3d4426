import json

import pytest

from app.inference.chat_templates import MAX_CHARACTERS, MAX_MESSAGES, ChatTemplate
from app.inference.errors import TemplateError
from app.inference.requests import ChatMessage, ChatTool, ChatToolCall, PromptWishes
from tests.harness.tiny_models import CHAT_TEMPLATE

HELLO = ChatMessage("user", "Hello")
WEATHER = ChatTool("get_weather", "Tells it.", {"type": "object", "properties": {"city": {}}})
CALLED = ChatMessage("assistant", "", (ChatToolCall("c1", "get_weather", '{"city": "Ulm"}'),))
ANSWERED = ChatMessage("tool", "Rain", tool_call_id="c1")


def render_with(
    template: str | None, *messages: ChatMessage, tools: tuple[ChatTool, ...] = (), max_s: float = 2
) -> str:
    templates = {} if template is None else {"default": template}
    return ChatTemplate(templates, {"bos_token": "<s>"}, max_s=max_s).render(messages, tools)


def test_a_prompt_ends_where_the_answer_begins() -> None:
    """The model's own template decides how roles are written."""
    prompt = render_with(CHAT_TEMPLATE, ChatMessage("system", "Be kind."), HELLO)

    assert prompt == "<|bos|><|system|>Be kind.<|end|><|user|>Hello<|end|><|assistant|>"


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([], "there must be at least one message"),
        ([HELLO, ChatMessage("judge", "")], "message 1 has the unknown role 'judge'; known roles"),
        ([HELLO] * (MAX_MESSAGES + 1), "there are 1025 messages, more than 1024"),
        ([ChatMessage("user", "x" * (MAX_CHARACTERS + 1))], "the messages have 1048577 char"),
    ],
)
def test_messages_that_cannot_be_a_chat_are_refused(
    messages: list[ChatMessage], sentence: str
) -> None:
    """Each by one sentence that says what is wrong."""
    with pytest.raises(TemplateError, match=sentence):
        render_with(CHAT_TEMPLATE, *messages)


def test_tools_that_are_too_long_are_refused() -> None:
    """They are part of the prompt."""
    tool = ChatTool("long", "x" * MAX_CHARACTERS)

    with pytest.raises(TemplateError, match="the tools have"):
        render_with(CHAT_TEMPLATE, HELLO, tools=(tool,))


def test_a_model_without_template_is_named_as_such() -> None:
    """It can still be given a plain prompt."""
    with pytest.raises(TemplateError, match="has no chat template"):
        render_with(None, HELLO)


def test_variables_of_the_caller_reach_the_template() -> None:
    """As do wishes to think, by the names that families have for them."""
    template = ChatTemplate({"default": "{{ a }}{{ enable_thinking }}{{ reasoning_effort }}"}, {})
    wishes = PromptWishes({"a": 1}, thinks=False, effort="low")

    assert template.render([HELLO], (), wishes) == "1Falselow"
    assert {"enable_thinking", "reasoning_effort"} <= template.words


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ 'x' * a }}", 10**12),
        ("{% for x in range(a) %}{% for y in range(a) %}{% endfor %}{% endfor %}", 99_999),
        ("{{ a | tojson }}", "x" * 3_000_000),
        ("{{ a.__class__ }}{{ a.pop() }}", [1]),
    ],
)
def test_what_a_caller_gives_the_template_stays_within_its_bounds(
    template: str, value: object
) -> None:
    """Of time, size and rights, as the template itself does."""
    sandboxed = ChatTemplate({"default": template}, {}, max_s=0.2)

    with pytest.raises(TemplateError):
        sandboxed.render([HELLO], (), PromptWishes({"a": value}))


@pytest.mark.parametrize("name", ["messages", "add_generation_prompt", "bos_token"])
def test_what_the_gateway_sets_is_not_the_callers_to_set(name: str) -> None:
    """Else the prompt would not be that of the messages."""
    with pytest.raises(TemplateError, match=f"'{name}' is set by the gateway"):
        ChatTemplate({"default": "x"}, {"bos_token": "<s>"}).render(
            [HELLO], (), PromptWishes({name: 1})
        )


@pytest.mark.parametrize("content", ["The cap", "The cap "])
def test_a_message_is_continued_where_it_stops(content: str) -> None:
    """Nothing that would end it stands in the prompt; blanks stay as they are."""
    template = ChatTemplate({"default": CHAT_TEMPLATE}, {})
    begun = ChatMessage("assistant", content)

    prompt = template.render([HELLO, begun], (), PromptWishes(continues=True))

    assert prompt == f"<|bos|><|user|>Hello<|end|><|assistant|>{content}"


@pytest.mark.parametrize(
    ("template", "last"),
    [
        (CHAT_TEMPLATE, HELLO),
        (CHAT_TEMPLATE, CALLED),
        (CHAT_TEMPLATE, ChatMessage("assistant", "")),
        ("{{ messages[0].content }}", ChatMessage("assistant", "x")),
        ("{% for m in messages * 2 %}{{ m.content }}{% endfor %}", ChatMessage("assistant", "x")),
    ],
)
def test_what_cannot_be_continued_is_told(template: str, last: ChatMessage) -> None:
    """Only a text of the assistant, that the template shows once."""
    with pytest.raises(TemplateError, match="continue"):
        ChatTemplate({"default": template}, {}).render(
            [HELLO, last], (), PromptWishes(continues=True)
        )


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('roles\n  must alternate') }}",
        "{{ messages[7]['content'] + 1 }}",
        "{% for %}",
        "{{ 1 / 0 }}",
        "{{ messages.append(messages) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
)
def test_a_template_that_fails_is_one_sentence(template: str) -> None:
    """Faults of a template, and attempts to leave its sandbox, are the model's and not ours."""
    with pytest.raises(TemplateError) as caught:
        render_with(template, HELLO)

    assert str(caught.value).startswith("the chat template of this model refuses the messages: ")
    assert "\n" not in str(caught.value)


def test_tools_and_calls_reach_templates_that_know_them() -> None:
    """In OpenAI's form, with arguments as values; what the special tokens are called, too."""
    template = (
        "{{ bos_token }}{# <tool_call> #}{% for t in tools %}{{ t.function.name }};{% endfor %}"
        "{% for m in messages %}{{ m.role }}:{% for c in m.tool_calls or [] %}"
        "{{ c.function.arguments | tojson }}{% endfor %}{{ m.content }}/{% endfor %}"
    )

    prompt = render_with(template, HELLO, CALLED, ANSWERED, tools=(WEATHER,))

    assert prompt == '<s>get_weather;user:Hello/assistant:{"city": "Ulm"}/tool:Rain/'


def test_a_template_of_its_own_for_tools_is_used_with_tools() -> None:
    """Some models have two."""
    template = ChatTemplate({"default": "plain", "tool_use": "<tool_call>"}, {})

    assert template.render([HELLO]) == "plain"
    assert template.render([HELLO], [WEATHER]) == "<tool_call>"


def test_models_that_know_no_tools_are_told_in_words() -> None:
    """In the system message; calls and their results become plain messages."""
    prompt = render_with(
        CHAT_TEMPLATE, ChatMessage("system", "Be kind."), HELLO, CALLED, ANSWERED, tools=(WEATHER,)
    )

    system, _, rest = prompt.removeprefix("<|bos|><|system|>").partition("<|end|>")
    signature = json.dumps(
        {"name": "get_weather", "description": "Tells it.", "parameters": dict(WEATHER.parameters)}
    )
    assert system.startswith("Be kind.\n\nYou may call functions")
    assert f"<tools>\n{signature}\n</tools>" in system
    assert rest == (
        "<|user|>Hello<|end|><|assistant|><tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Ulm"}}\n</tool_call><|end|>'
        "<|user|><tool_response>\nRain\n</tool_response><|end|><|assistant|>"
    )


LOOP = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        LOOP,
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
)
def test_a_template_that_does_not_end_is_cut_off(template: str) -> None:
    """Loops and macros look at the clock."""
    with pytest.raises(TemplateError, match=r"is cut off|calls itself"):
        render_with(template, HELLO, max_s=0.1)


DOUBLING = "{% set n = namespace(s='xy') %}{% for i in range(99) %}STEP{% endfor %}{{ n.s }}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 3000000 }}",
        "{{ 3000000 * [1] }}",
        "{% for a in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
        DOUBLING.replace("STEP", "{% set n.s = n.s ~ n.s %}"),
        DOUBLING.replace("STEP", "{% set n.s = n.s + n.s %}"),
        DOUBLING.replace("STEP", "{% set n.s = [n.s, n.s] | join %}"),
        DOUBLING.replace("STEP", "{% set n.s = n.s.join(['', '', '']) %}"),
        DOUBLING.replace("STEP", "{% set n.s = n.s | replace('x', 'xx') %}"),
        DOUBLING.replace("STEP", "{% set n.s = n.s.replace('x', 'xx') %}"),
        DOUBLING.replace("STEP", "{% set x %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = x %}"),
        "{{ 9 ** 99999 }}",
        "{% set n = namespace(i=9) %}{% for i in range(99) %}{% set n.i = n.i * n.i %}{% endfor %}",
        "{{ 'x'.ljust(10 ** 9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'x' | center(10 ** 9) }}",
    ],
)
def test_a_template_that_blows_up_is_refused(template: str) -> None:
    """What would become too large does not become so."""
    with pytest.raises(TemplateError):
        render_with(template, HELLO)


def test_what_templates_of_the_hub_rely_on_is_there() -> None:
    """Filters, loop controls, marks for training."""
    template = (
        "{%- generation -%}{{ 'a-a' | replace('a', 'b') }}{%- endgeneration -%}"
        "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        "{{ [1, 2] | join(', ') }}{{ 'x\ny' | indent(2) }}{{ {'ä': '<'} | tojson }}"
        "{{ 'a b'.split() | length }}{{ '-' * 3 }}{{ messages[0]['content'] ~ '!' }}"
        "{{ strftime_now('%Y') | length }}{{ 7 % 4 }}{{ messages[-1].content.strip() | trim }}"
    )

    assert render_with(template, HELLO) == 'b-b011, 2x\n  y{"ä": "<"}2---Hello!43Hello'
