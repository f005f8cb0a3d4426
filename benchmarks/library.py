"""How fast is the library against local transformers: forward, backward, prefill, start, memory?

The same model and one thread per process: transformers' blocks in this process, then the same
blocks on two servers, in turns. 8 x 128 tokens forward and backward, a prefill of 512 tokens.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.random_llama import LlamaShape, save_random_llama
from benchmarks.report import print_report
from benchmarks.swarm_processes import swarm_processes
from swarm_client import DistributedLlamaForCausalLM
from swarm_client.models.causal_lm import DistributedCausalLM

_IMPORTS = (
    "import time, torch; from transformers import GenerationMixin, LlamaConfig, PreTrainedModel; "
    "started_at = time.perf_counter(); from swarm_client import DistributedLlamaForCausalLM; "
    "print(time.perf_counter() - started_at)"
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dtype = getattr(torch, arguments.dtype)
    shape = LlamaShape()
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "bench"
        save_random_llama(model, shape, dtype)
        middle = shape.num_blocks // 2
        spans = [f"0:{middle}", f"{middle}:{shape.num_blocks}"]
        with swarm_processes(model, spans, dtype=arguments.dtype) as swarm:
            start = measure_start(model, swarm.maddr, arguments.dtype)
            remote = DistributedLlamaForCausalLM.from_pretrained(
                str(model), initial_peers=[swarm.maddr], torch_dtype=dtype
            )
            whole = LlamaForCausalLM.from_pretrained(model, dtype=dtype).eval()
            whole.requires_grad_(requires_grad=False)
            ratios = compare(whole, remote, arguments.rounds)
            remote.close()
    print_report("library", {"dtype": arguments.dtype, **ratios, **start})


def compare(
    whole: LlamaForCausalLM, remote: DistributedCausalLM, num_rounds: int
) -> dict[str, object]:
    """Return medians of both sides and their ratios; above 1 is faster than local."""
    rows = torch.randn(8, 128, whole.config.hidden_size).to(whole.dtype)
    prompt = torch.arange(512).unsqueeze(0)

    def local_blocks(hidden: Tensor) -> Tensor:
        output: Tensor = whole.model(inputs_embeds=hidden, use_cache=False).last_hidden_state
        return output

    def remote_blocks(hidden: Tensor) -> Tensor:
        output: Tensor = remote.transformer.ln_f(remote.transformer.h(hidden))
        return output

    def prefill_locally() -> object:
        with torch.inference_mode():
            return whole(prompt, use_cache=True, logits_to_keep=1)

    def prefill_remotely() -> object:
        with torch.inference_mode(), remote.inference_session(max_length=513):
            return remote(prompt, logits_to_keep=1)

    passes = {"local": local_blocks, "remote": remote_blocks}
    took: dict[str, list[float]] = {}
    for number in range(num_rounds + 1):
        for side, blocks in passes.items():
            forward_s, backward_s = measure_pass(blocks, rows)
            prefill = prefill_locally if side == "local" else prefill_remotely
            prefill_s = seconds(prefill)
            if number:  # the first round warms up
                took.setdefault(f"{side}_forward", []).append(forward_s)
                took.setdefault(f"{side}_backward", []).append(backward_s)
                took.setdefault(f"{side}_prefill", []).append(prefill_s)
    medians = {name: statistics.median(values) for name, values in took.items()}
    ratios = {
        f"{what}_ratio": round(medians[f"local_{what}"] / medians[f"remote_{what}"], 3)
        for what in ("forward", "backward", "prefill")
    }
    return {**ratios, **{f"{name}_s": round(value, 3) for name, value in medians.items()}}


def measure_pass(blocks: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[float, float]:
    """Return the seconds of a forward pass and of its backward pass."""
    hidden = rows.clone().requires_grad_()
    started_at = time.perf_counter()
    output = blocks(hidden)
    forward_at = time.perf_counter()
    torch.autograd.backward(output, torch.ones_like(output))
    return forward_at - started_at, time.perf_counter() - forward_at


def seconds(function: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started_at = time.perf_counter()
    function()
    return time.perf_counter() - started_at


def measure_start(model: Path, maddr: str, dtype: str) -> dict[str, object]:
    """Return a new process's import time beyond transformers, its first token and its memory."""
    imported = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _IMPORTS],
        capture_output=True,
        text=True,
        check=True,
    )
    client = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "benchmarks.library_client",
            str(model),
            maddr,
            dtype,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    facts: dict[str, object] = json.loads(client.stdout.splitlines()[-1])
    return {"import_s": round(float(imported.stdout), 3), **facts}


if __name__ == "__main__":
    main()
