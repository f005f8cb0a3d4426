"""The model classes of all families, by the names that Petals gave them.

Make them with `from_pretrained`; they differ in the configs they take, and in nothing else.
"""

from transformers import (
    BloomConfig,
    FalconConfig,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen3Config,
)

from swarm_client.models.causal_lm import DistributedCausalLM
from swarm_client.models.sequence_classification import DistributedModelForSequenceClassification

__all__ = [
    "DistributedBloomForCausalLM",
    "DistributedBloomForSequenceClassification",
    "DistributedFalconForCausalLM",
    "DistributedFalconForSequenceClassification",
    "DistributedGemma3ForCausalLM",
    "DistributedGemma3ForSequenceClassification",
    "DistributedLlamaForCausalLM",
    "DistributedLlamaForSequenceClassification",
    "DistributedMistralForCausalLM",
    "DistributedMistralForSequenceClassification",
    "DistributedMixtralForCausalLM",
    "DistributedMixtralForSequenceClassification",
    "DistributedQwen3ForCausalLM",
    "DistributedQwen3ForSequenceClassification",
]


class DistributedBloomForCausalLM(DistributedCausalLM):
    """A BLOOM or BLOOMZ that writes."""

    config_class = BloomConfig


class DistributedBloomForSequenceClassification(DistributedModelForSequenceClassification):
    """A BLOOM or BLOOMZ that sorts texts into classes."""

    config_class = BloomConfig


class DistributedFalconForCausalLM(DistributedCausalLM):
    """A Falcon that writes."""

    config_class = FalconConfig


class DistributedFalconForSequenceClassification(DistributedModelForSequenceClassification):
    """A Falcon that sorts texts into classes."""

    config_class = FalconConfig


class DistributedGemma3ForCausalLM(DistributedCausalLM):
    """A Gemma 3 that writes."""

    config_class = Gemma3TextConfig


class DistributedGemma3ForSequenceClassification(DistributedModelForSequenceClassification):
    """A Gemma 3 that sorts texts into classes."""

    config_class = Gemma3TextConfig


class DistributedLlamaForCausalLM(DistributedCausalLM):
    """A Llama that writes."""

    config_class = LlamaConfig


class DistributedLlamaForSequenceClassification(DistributedModelForSequenceClassification):
    """A Llama that sorts texts into classes."""

    config_class = LlamaConfig


class DistributedMistralForCausalLM(DistributedCausalLM):
    """A Mistral that writes."""

    config_class = MistralConfig


class DistributedMistralForSequenceClassification(DistributedModelForSequenceClassification):
    """A Mistral that sorts texts into classes."""

    config_class = MistralConfig


class DistributedMixtralForCausalLM(DistributedCausalLM):
    """A Mixtral that writes."""

    config_class = MixtralConfig


class DistributedMixtralForSequenceClassification(DistributedModelForSequenceClassification):
    """A Mixtral that sorts texts into classes."""

    config_class = MixtralConfig


class DistributedQwen3ForCausalLM(DistributedCausalLM):
    """A Qwen3 that writes."""

    config_class = Qwen3Config


class DistributedQwen3ForSequenceClassification(DistributedModelForSequenceClassification):
    """A Qwen3 that sorts texts into classes."""

    config_class = Qwen3Config
