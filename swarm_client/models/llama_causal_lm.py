"""Llama, driven by transformers and run by servers."""

from transformers import LlamaConfig

from swarm_client.models.causal_lm import DistributedCausalLM


class DistributedLlamaForCausalLM(DistributedCausalLM):
    """A Llama whose blocks are run by servers. Make it with `from_pretrained`."""

    config_class = LlamaConfig
