"""One stream of plain transformers: what all ratios are relative to."""

import time

import torch
from transformers import LlamaForCausalLM


def measure_local_stream(model: LlamaForCausalLM, num_tokens: int) -> float:
    """Return tokens per second of a greedy generation after its first token."""
    times: list[float] = []

    class Clock:
        """Stands in for a text streamer: only the times matter."""

        def put(self, _value: object) -> None:
            times.append(time.perf_counter())

        def end(self) -> None:
            return

    prompt = torch.arange(5, 5 + 32).unsqueeze(0)
    with torch.inference_mode():
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=num_tokens,
            do_sample=False,
            streamer=Clock(),
        )
    generated = times[1:]  # the first one is the prompt
    return (len(generated) - 1) / (generated[-1] - generated[0])
