"""Which class a checkpoint gets."""

from pathlib import Path

import pytest

from swarm_client import (
    AutoDistributedModelForCausalLM,
    AutoDistributedModelForSequenceClassification,
    DistributedBloomForCausalLM,
)
from swarm_protocol.errors import UnsupportedModelError
from tests.unit.swarm_client.models.checkpoints import write_checkpoint


@pytest.mark.parametrize(
    "auto", [AutoDistributedModelForCausalLM, AutoDistributedModelForSequenceClassification]
)
def test_an_unknown_architecture_is_refused_with_the_known_ones(
    tmp_path: Path, auto: type[AutoDistributedModelForCausalLM]
) -> None:
    """Before any swarm is joined."""
    write_checkpoint(tmp_path, {"model_type": "gpt2"})

    with pytest.raises(UnsupportedModelError, match=r"gpt2.*bloom, falcon, gemma3.*qwen3"):
        auto.from_pretrained(str(tmp_path), initial_peers=["/ip4/127.0.0.1/tcp/1/p2p/x"])


def test_a_class_refuses_a_checkpoint_of_another_family(tmp_path: Path) -> None:
    """It would generate with the wrong config."""
    write_checkpoint(tmp_path)

    with pytest.raises(UnsupportedModelError, match="'llama' is not supported; supported: bloom"):
        DistributedBloomForCausalLM.from_pretrained(
            str(tmp_path), initial_peers=["/ip4/127.0.0.1/tcp/1/p2p/x"]
        )
