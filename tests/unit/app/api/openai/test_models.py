"""Models on a scripted engine, as the `openai` SDK sees them."""

import openai
import pytest

from tests.harness.scripted_engine import ScriptedEngine
from tests.unit.app.api.sdk import openai_sdk


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
