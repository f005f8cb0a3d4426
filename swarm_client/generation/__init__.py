"""From logits to tokens: sampling parameters and the sampler. Must not know servers."""
