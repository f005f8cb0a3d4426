import pytest

from app.inference.chat_templates import MAX_CHARACTERS, MAX_MESSAGES, render_chat
from app.inference.errors import TemplateError
from app.inference.requests import ChatMessage
from tests.harness.tiny_models import byte_tokenizer

HELLO = ChatMessage("user", "Hello")


def render_with(template: str | None, *messages: ChatMessage) -> str:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return render_chat(tokenizer, messages)


def test_a_prompt_ends_where_the_answer_begins() -> None:
    """The model's own template decides how roles are written."""
    prompt = render_chat(byte_tokenizer(), [ChatMessage("system", "Be kind."), HELLO])

    assert prompt == "<|bos|><|system|>Be kind.<|end|><|user|>Hello<|end|><|assistant|>"


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([], "there must be at least one message"),
        ([HELLO, ChatMessage("tool", "")], "message 1 has the unknown role 'tool'; known roles: "),
        ([HELLO] * (MAX_MESSAGES + 1), "there are 1025 messages, more than 1024"),
        ([ChatMessage("user", "x" * (MAX_CHARACTERS + 1))], "the messages have 1048577 char"),
    ],
)
def test_messages_that_cannot_be_a_chat_are_refused(
    messages: list[ChatMessage], sentence: str
) -> None:
    """Each by one sentence that says what is wrong."""
    with pytest.raises(TemplateError, match=sentence):
        render_chat(byte_tokenizer(), messages)


def test_a_model_without_template_is_named_as_such() -> None:
    """It can still be given a plain prompt."""
    with pytest.raises(TemplateError, match="has no chat template"):
        render_with(None, HELLO)


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


def test_a_template_that_blows_up_is_refused() -> None:
    """Its output has a bound as its input has."""
    with pytest.raises(TemplateError, match="too long a prompt"):
        render_with("{{ 'x' * 3000000 }}", HELLO)
