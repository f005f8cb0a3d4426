"""Models on a scripted engine, as both SDKs see them."""

import openai
import pytest

from tests.harness.scripted_engine import ScriptedEngine
from tests.unit.app.api.sdk import anthropic_sdk, openai_sdk


async def test_sdk_lists_and_retrieves_models() -> None:
    """With what the chat page wants to know."""
    async with openai_sdk(ScriptedEngine()) as client:
        models = await client.models.list()
        demo = await client.models.retrieve("demo")
        with pytest.raises(openai.NotFoundError, match="known models: demo"):
            await client.models.retrieve("other/model")

    assert [model.id for model in models.data] == ["demo"]
    assert demo.model_dump()["is_demo"] is True
    assert demo.model_dump()["max_model_len"] == 512


async def test_anthropics_sdk_lists_and_retrieves_models_in_its_own_form() -> None:
    """It says which version it speaks; the path is the same."""
    async with anthropic_sdk(ScriptedEngine()) as client:
        models = [model async for model in client.models.list()]
        demo = await client.models.retrieve("demo")

    assert models == [demo]
    assert (demo.type, demo.id, demo.display_name) == ("model", "demo", "demo (demo)")
    assert demo.created_at is not None
    assert demo.created_at.timestamp() == 1_700_000_000
    assert demo.max_input_tokens == 512
