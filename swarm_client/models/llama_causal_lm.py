"""Llama, driven by transformers and run by servers."""

from typing import Self

from transformers import LlamaConfig, PreTrainedConfig

from swarm_client.models.causal_lm import DistributedCausalLM, Trunk
from swarm_client.models.llama import LlamaLocalParts
from swarm_client.models.local_parts import LocalParts
from swarm_client.remote import RemoteSequential


class DistributedLlamaForCausalLM(DistributedCausalLM):
    """A Llama whose blocks are run by servers. Make it with `from_pretrained`."""

    config_class = LlamaConfig

    @classmethod
    def assemble(cls, config: PreTrainedConfig, parts: LocalParts, h: RemoteSequential) -> Self:
        """Return the model made of these parts."""
        assert isinstance(parts, LlamaLocalParts), "the registry pairs them"
        return cls(config, Trunk(parts.word_embeddings, h, parts.ln_f), parts.lm_head)
