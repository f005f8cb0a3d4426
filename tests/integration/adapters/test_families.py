"""Every family: an adapter on servers equals its product merged into transformers' weights."""

from pathlib import Path

import pytest
import torch

from tests.harness.lora_adapters import merged_model
from tests.harness.tiny_families import FAMILIES
from tests.integration.adapters.adapted_swarm import adapted_swarm, logits_of, save_two_adapters


@pytest.mark.parametrize("family", FAMILIES)
async def test_logits_equal_those_of_merged_weights(family: str, tmp_path: Path) -> None:
    """Of modules that are layers of their own, and of those that are a part of one."""
    model = FAMILIES[family](tmp_path / family)
    adapters = save_two_adapters(tmp_path, model)

    async with adapted_swarm(model, adapters) as swarm:
        for adapter in adapters:
            logits = await swarm.prefill(adapter.name)

            expected = logits_of(merged_model(model, adapter))
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
