"""The blocks of a Llama in this process, as transformers runs them: what gradients must equal."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from swarm_protocol.identifiers import BlockRange


class LocalLayers:
    """Some blocks of a model; embeddings, final norm and head are left out."""

    def __init__(self, model: Path, blocks: BlockRange) -> None:
        trunk = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32).model
        trunk.requires_grad_(False)
        trunk.layers = trunk.layers[blocks.start : blocks.end]
        trunk.norm = nn.Identity()
        self._trunk = trunk

    def __call__(self, hidden: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Return what the blocks make of `hidden`; `prompts[i]` are added before the i-th."""
        hooks = [
            layer.register_forward_pre_hook(_adder(prompts[index]))
            for index, layer in enumerate(self._trunk.layers)
            if prompts is not None
        ]
        output: Tensor = self._trunk(inputs_embeds=hidden, use_cache=False).last_hidden_state
        for hook in hooks:
            hook.remove()
        return output


def _adder(prompts: Tensor):  # type: ignore[no-untyped-def]  # torch leaves a hook's type open
    def add(layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = arguments
        padding = (0, 0, 0, hidden.shape[1] - prompts.shape[1])
        return (hidden + nn.functional.pad(prompts, padding), *rest)

    return add
