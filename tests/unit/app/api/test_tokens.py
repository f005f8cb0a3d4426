"""Prompts as the model sees them, without a generation."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from app.inference.chat_templates import ChatStyle
from app.settings import Settings
from app.settings.keys import KeySettings
from tests.harness.scripted_engine import ScriptedEngine, http_client

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}


async def test_a_text_is_tokenized_with_the_models_first_token() -> None:
    """Unless the caller does not want it; strings come on demand."""
    body = {"model": "demo", "prompt": "Hi", "return_token_strs": True}
    async with http_client(ScriptedEngine()) as client:
        whole = (await client.post("/tokenize", json=body)).json()
        bare = (await client.post("/tokenize", json={**body, "add_special_tokens": False})).json()

    assert whole == {
        "count": 3,
        "max_model_len": 512,
        "tokens": [1, 72, 105],
        "token_strs": ["\x01", "H", "i"],
    }
    assert bare["tokens"] == [72, 105]


async def test_a_chat_is_tokenized_as_its_answer_would_see_it() -> None:
    """And `render` shows text and tokens of the same body."""
    async with http_client(ScriptedEngine()) as client:
        tokens = (await client.post("/tokenize", json=CHAT)).json()
        body = {**CHAT, "temperature": 0.5, "stream": True}
        prompt = (await client.post("/v1/chat/completions/render", json=body)).json()

    assert tokens["token_strs"] is None
    assert tokens["tokens"] == prompt["token_ids"] == [72, 105]
    assert (prompt["prompt"], prompt["count"]) == ("Hi", 2)


async def test_tokens_become_text_again() -> None:
    """Special ones included; unknown fields are named."""
    body = {"model": "demo", "tokens": [1, 72, 105], "skip": 1}
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post("/detokenize", json=body)

    assert answer.json() == {"prompt": "\x01Hi"}
    assert answer.headers["x-swarmgate-ignored"] == "skip"


async def test_wishes_that_a_tokenized_prompt_does_not_heed_are_named() -> None:
    """A chat's by its template, as in the answer to the same chat; a text heeds none."""
    wishes = {"chat_template_kwargs": {"enable_thinking": False, "mood": 1}, "mystery": 1}
    engine = ScriptedEngine()
    engine.demo.chat_style = ChatStyle(template_words=frozenset({"enable_thinking"}))
    async with http_client(engine) as client:
        chat = await client.post("/tokenize", json={**CHAT, **wishes})
        text = await client.post("/tokenize", json={"model": "demo", "prompt": "Hi", **wishes})

    assert chat.headers["x-swarmgate-ignored"] == "mystery, chat_template_kwargs.mood"
    assert text.headers["x-swarmgate-ignored"] == "mystery, chat_template_kwargs"


async def test_a_key_for_other_models_sees_no_prompts_of_this_one(tmp_path: Path) -> None:
    """Chat templates belong to the model."""
    settings = Settings(
        admin_keys=(SecretStr("master-key"),), keys=KeySettings(file=tmp_path / "keys.json")
    )
    draft = {"name": "app", "scopes": {"models": ["other"]}}
    async with http_client(ScriptedEngine(), settings) as client:
        admin = {"authorization": "Bearer master-key"}
        key = (await client.post("/api/v1/admin/keys", json=draft, headers=admin)).json()["key"]
        answers = [
            await client.post(path, json=CHAT, headers={"x-api-key": key})
            for path in ("/tokenize", "/v1/messages/count_tokens")
        ]

    codes = [(answer.status_code, answer.json()["error"]["code"]) for answer in answers]
    assert codes == [(403, "out_of_scope")] * 2


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tokenize", {"model": "demo"}, 400),
        ("/tokenize", {**CHAT, "prompt": "Hi"}, 400),
        ("/tokenize", {"model": "other", "prompt": "Hi"}, 404),
        ("/tokenize", {"prompt": "Hi"}, 400),
        ("/tokenize", {**CHAT, "chat_template": "{{ messages }}"}, 400),
        ("/detokenize", {"model": "demo", "tokens": [256]}, 400),
        ("/detokenize", {"model": "demo", "tokens": ["a"]}, 400),
        ("/v1/chat/completions/render", {**CHAT, "messages": []}, 400),
    ],
)
async def test_what_does_not_fit_is_told(path: str, body: dict[str, object], status: int) -> None:
    """In OpenAI's form, as everywhere under these paths."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(path, json=body)

    assert answer.status_code == status
    assert answer.json()["error"]["message"]
