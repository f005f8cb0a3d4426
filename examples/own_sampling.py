"""Step 5: decoding of your own, from hidden states: greedy by hand, and beams that avoid words."""

import math
from collections.abc import Sequence
from typing import Final

import torch
from rich.progress import track
from torch import Tensor
from transformers import AutoTokenizer

from examples.arguments import read_arguments
from swarm_client import AutoDistributedModelForCausalLM
from swarm_client.models.causal_lm import DistributedCausalLM

PROMPT: Final = "<|bos|><|user|>Tell me a story.<|end|><|assistant|>"
BANNED: Final = ("Once", " lived", " named")
NUM_TOKENS: Final = 32
NUM_BEAMS: Final = 4


def main() -> None:
    """Tell the same story three times."""
    arguments = read_arguments(__doc__)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoDistributedModelForCausalLM.from_pretrained(
        arguments.model, initial_peers=arguments.initial_peers
    )
    prompt = tokenizer(PROMPT, add_special_tokens=False, return_tensors="pt")["input_ids"]
    banned = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in BANNED]

    with torch.inference_mode():
        print("greedy:", tokenizer.decode(decode_greedily(model, prompt, NUM_TOKENS)))
        print("beams:", tokenizer.decode(search_beams(model, prompt, NUM_TOKENS, banned=[])))
        story = tokenizer.decode(search_beams(model, prompt, NUM_TOKENS, banned=banned))
    print(f"without {', '.join(map(repr, BANNED))}:", story)
    assert not any(word in story for word in BANNED), "banned words are not said"
    model.close()


def decode_greedily(model: DistributedCausalLM, prompt: Tensor, num_tokens: int) -> Tensor:
    """Return the likeliest token after each other, int64 `[num_tokens]`, for `[1, num_tokens]`."""
    tokens, decoded = prompt, []
    with model.inference_session(max_length=prompt.shape[1] + num_tokens) as session:
        for _ in range(num_tokens):
            embeds = model.transformer.word_embeddings(tokens)
            embeds = model.transformer.word_embeddings_layernorm(embeds)
            hidden = session.step(embeds)
            logits = model.lm_head(model.transformer.ln_f(hidden[:, -1]))
            tokens = logits.argmax(-1).reshape(1, 1)
            decoded.append(tokens)
    return torch.cat(decoded, 1)[0]


def search_beams(
    model: DistributedCausalLM, prompt: Tensor, num_tokens: int, *, banned: Sequence[Sequence[int]]
) -> Tensor:
    """Return the best of `NUM_BEAMS` continuations that contain none of the banned ones.

    Each row of the session is a beam. When a beam is continued twice and another not at all,
    `hypo_ids` tells the servers whose keys and values each row goes on with.

    Args:
        model: to ask.
        prompt: int64 `[1, num_prompt_tokens]`.
        num_tokens: length of the continuation.
        banned: sequences of token ids.

    Returns:
        int64 `[num_tokens]`.
    """
    tokens, beams = prompt.expand(NUM_BEAMS, -1), prompt.new_empty(NUM_BEAMS, 0)
    # All beams begin alike, so that only the first may be continued in the first step.
    scores = torch.tensor([0.0] + [-math.inf] * (NUM_BEAMS - 1))
    hypo_ids = torch.arange(NUM_BEAMS)
    length = prompt.shape[1] + num_tokens
    with model.inference_session(max_length=length, batch_size=NUM_BEAMS) as session:
        for _ in track(range(num_tokens), "beams", transient=True):
            embeds = model.transformer.word_embeddings(tokens)
            embeds = model.transformer.word_embeddings_layernorm(embeds)
            hidden = session.step(embeds, hypo_ids=hypo_ids)
            logits = model.lm_head(model.transformer.ln_f(hidden[:, -1])).float()
            totals = scores[:, None] + ban(logits.log_softmax(-1), beams, banned)
            scores, best = totals.flatten().topk(NUM_BEAMS)
            hypo_ids, chosen = best // logits.shape[-1], best % logits.shape[-1]
            beams = torch.cat([beams[hypo_ids], chosen[:, None]], 1)
            tokens = chosen[:, None]
    return beams[0]


def ban(log_probs: Tensor, beams: Tensor, banned: Sequence[Sequence[int]]) -> Tensor:
    """Forbid, for each beam, the tokens that would complete a banned sequence.

    Args:
        log_probs: `[num_beams, vocab_size]`; changed in place and returned.
        beams: int64 `[num_beams, num_tokens]` so far.
        banned: sequences of token ids.
    """
    for row, beam in enumerate(beams.tolist()):
        for *start, last in banned:
            if beam[len(beam) - len(start) :] == start:
                log_probs[row, last] = -math.inf
    return log_probs


if __name__ == "__main__":
    main()
