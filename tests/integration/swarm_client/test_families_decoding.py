"""Beams, padding and rollback on every family: what their KV caches and positions must bear."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from swarm_client import AutoDistributedModelForCausalLM
from tests.harness.tiny_families import FAMILIES
from tests.integration.swarm_client.local_model import node_with_servers

UNEQUAL = torch.tensor([[0, 0, 1, 50, 60], [1, 9, 8, 7, 6], [0, 1, 33, 90, 44]])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_decodes_as_transformers_does(family: str, tmp_path: Path) -> None:
    """Beams over prompts of unequal length, then a session that goes back and on."""
    directory = FAMILIES[family](tmp_path)
    whole: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    beams: dict[str, Any] = {
        "attention_mask": (UNEQUAL != 0).long(),
        "num_beams": 3,
        "max_new_tokens": 14,
        "do_sample": False,
        "pad_token_id": 0,
    }
    greedy: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    model = AutoDistributedModelForCausalLM.from_pretrained(
        str(directory),
        torch_dtype="float32",
        node_factory=node_with_servers(directory, ["0:2", "2:4"]),
    )
    try:
        assert model.generate(UNEQUAL, **beams).equal(whole.generate(UNEQUAL, **beams))
        with model.inference_session(max_length=60) as session:
            first = model.generate(UNEQUAL[1:2], **greedy)
            session.position = 7
            second = model.generate(UNEQUAL[1:2], **greedy)
    finally:
        model.close()
    context = torch.cat([first[:, :7], UNEQUAL[1:2]], dim=1)
    assert second.equal(whole.generate(context, **greedy)[:, 7:])
