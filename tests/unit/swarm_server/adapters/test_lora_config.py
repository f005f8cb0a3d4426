"""What an adapter_config.json says, and what is not served."""

from typing import Any

import pytest

from swarm_server.adapters.lora_config import LoraConfig
from swarm_server.errors import AdapterError

FIELDS = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
}
Q_PROJ = "model.layers.1.self_attn.q_proj"


def parse(**changes: Any) -> LoraConfig:
    return LoraConfig.parse("mine", FIELDS | changes)


def test_the_scale_is_alpha_over_rank_or_over_its_root() -> None:
    """The root is that of rank-stabilized LoRA."""
    assert parse().scale == 2.0
    assert parse(use_rslora=True).scale == 4.0


def test_targets_are_ends_of_names_at_a_dot_or_one_pattern_for_whole_names() -> None:
    """As in PEFT: a text is a regular expression, a list is not."""
    assert parse().adapts(Q_PROJ, 1)
    assert parse(target_modules=["self_attn.q_proj"]).adapts(Q_PROJ, 1)
    assert not parse(target_modules=["proj"]).adapts(Q_PROJ, 1)
    assert parse(target_modules=r".*\.(q|k)_proj").adapts(Q_PROJ, 1)
    assert not parse(target_modules="q_proj").adapts(Q_PROJ, 1)


def test_modules_and_blocks_may_be_left_out() -> None:
    """By `exclude_modules` and `layers_to_transform`; an empty list leaves none out."""
    assert parse(layers_to_transform=[]).adapts(Q_PROJ, 1)
    assert not parse(exclude_modules=["q_proj"]).adapts(Q_PROJ, 1)
    assert parse(layers_to_transform=[1, 2]).adapts(Q_PROJ, 1)
    assert not parse(layers_to_transform=0).adapts(Q_PROJ, 1)


@pytest.mark.parametrize(
    "field",
    ["use_dora", "modules_to_save", "lora_bias", "rank_pattern", "alpha_pattern", "use_qalora"],
)
def test_variants_that_compute_otherwise_are_refused_by_name(field: str) -> None:
    """Present but empty means that they are not used."""
    parse(**{field: None})
    parse(**{field: []})

    with pytest.raises(AdapterError, match=f"adapter mine: .*{field} is not served"):
        parse(**{field: ["x"]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type must be LORA, got 'IA3'"),
        ({"bias": "all"}, "bias must be none"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights must be one that keeps the base"),
        ({"r": 0}, "r must be a positive whole number, got 0"),
        ({"r": True}, "r must be a positive whole number"),
        ({"lora_alpha": "8"}, "lora_alpha must be a number"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be a number"),
        ({"target_modules": None}, "target_modules must be a list"),
        ({"target_modules": [1]}, "target_modules must be a list"),
        ({"target_modules": "("}, "target_modules is not a regular expression"),
        ({"layers_to_transform": ["1"]}, "layers_to_transform must be indexes"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], message: str) -> None:
    """With what was expected and what came."""
    with pytest.raises(AdapterError, match=message):
        parse(**changes)
