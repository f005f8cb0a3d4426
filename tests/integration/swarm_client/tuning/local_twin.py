"""The same models in one process, built of transformers' own blocks, to compare with."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from swarm_client.tuning import PromptTuning


class LocalBlocks(nn.Module):
    """A range of blocks under the interface of remote ones."""

    def __init__(self, whole: LlamaForCausalLM, layers: list[nn.Module] | None = None) -> None:
        super().__init__()
        self._whole = [whole]  # in a list: its parameters are not this module's
        self._layers = list(whole.model.layers) if layers is None else layers

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, which: slice) -> Self:
        return type(self)(self._whole[0], self._layers[which])

    def forward(self, hidden: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Run a sequence of its own; deep prompts are added before each block."""
        positions = torch.arange(hidden.shape[1])[None]
        rotary = self._whole[0].model.rotary_emb(hidden, positions)
        for index, layer in enumerate(self._layers):
            if prompts is not None:
                num_prompts = prompts.shape[2]
                raised = hidden[:, :num_prompts] + prompts[index]
                hidden = torch.cat([raised, hidden[:, num_prompts:]], dim=1)
            hidden = layer(hidden, attention_mask=None, position_embeddings=rotary)
        return hidden


class LocalTwin(nn.Module):
    """A Llama with copies of prompts, which are added and cut off in the plainest way."""

    def __init__(self, whole: LlamaForCausalLM, prompts: PromptTuning) -> None:
        super().__init__()
        self._whole = [whole]
        self.blocks = LocalBlocks(whole)
        self.pre_seq_len = prompts.pre_seq_len
        self.shallow = nn.Parameter(prompts.prompt_embeddings.detach().clone())
        deep = prompts.deep_prompt_embeddings
        self.deep = None if deep is None else nn.Parameter(deep.detach().clone())

    def hidden(self, token_ids: Tensor) -> Tensor:
        """Return normed hidden states `[batch, num_tokens, hidden_size]`, prompts cut off."""
        model = self._whole[0].model
        embeds = model.embed_tokens(token_ids)
        rows = torch.stack([self.shallow] * len(embeds))
        prompts = None
        if self.deep is not None:
            width = embeds.shape[2]
            by_block = torch.stack(
                [self.deep[:, i * width : (i + 1) * width] for i in range(len(self.blocks))]
            )
            prompts = torch.stack([by_block] * len(embeds), dim=1)
        hidden = self.blocks(torch.cat([rows, embeds], dim=1), prompts)
        normed: Tensor = model.norm(hidden[:, self.pre_seq_len :])
        return normed

    def logits(self, token_ids: Tensor) -> Tensor:
        """Return the LM head's logits `[batch, num_tokens, vocab_size]`."""
        logits: Tensor = self._whole[0].lm_head(self.hidden(token_ids))
        return logits

    @torch.no_grad()
    def greedy(self, token_ids: Tensor, num_new: int) -> Tensor:
        """Return the prompt and what follows it; everything is run again for every token."""
        for _ in range(num_new):
            best = self.logits(token_ids)[:, -1:].argmax(-1)
            token_ids = torch.cat([token_ids, best], dim=1)
        return token_ids


def enlarge(prompts: PromptTuning) -> None:
    """Make new prompts as large as the tiny model's embeddings, so that they matter as much.

    Norms would blow the gradients of smaller ones up, and with them the rounding.
    """
    with torch.no_grad():
        for parameter in prompts.parameters():
            parameter.mul_(20)


def assert_close(actual: Any, expected: Any) -> None:
    """Compare float32 tensors; sums are in another order than in transformers' blocks."""
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
