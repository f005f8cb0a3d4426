"""How fast is one session through the whole product, against plain transformers?

The same model, one thread per process: `transformers.generate` in this process, then the gateway's
WebSocket in front of two servers, in turns. Tokens per second are those after the first token.
"""

import argparse
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from benchmarks.chat_clients import chat_at_once, tokens_per_s
from benchmarks.local_stream import measure_local_stream
from benchmarks.prometheus_quantiles import read_quantiles
from benchmarks.random_llama import LlamaShape, save_random_llama
from benchmarks.report import print_report
from benchmarks.swarm_processes import swarm_processes


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of one generation")
    parser.add_argument("--rounds", type=int, default=3, help="generations of each side")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--blocks", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shape = LlamaShape(num_blocks=arguments.blocks)
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "bench"
        save_random_llama(model, shape, getattr(torch, arguments.dtype))
        results = compare(model, shape, arguments.dtype, arguments.tokens, arguments.rounds)
    print_report("single_session", {"shape": asdict(shape), **results})


def compare(
    model: Path, shape: LlamaShape, dtype: str, num_tokens: int, num_rounds: int
) -> dict[str, object]:
    """Measure both sides in turns."""
    whole = LlamaForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    middle = shape.num_blocks // 2
    spans = [f"0:{middle}", f"{middle}:{shape.num_blocks}"]
    local: list[float] = []
    remote: list[float] = []
    with swarm_processes(model, spans, dtype=dtype) as swarm:
        for _ in range(num_rounds + 1):
            local.append(measure_local_stream(whole, num_tokens))
            remote.append(tokens_per_s(chat_at_once(swarm.port, 1, num_tokens)))
        overhead = read_quantiles(
            f"http://127.0.0.1:{swarm.port}", "swarmgate_overhead_per_token_seconds", (0.5, 0.99)
        )
    local, remote = local[1:], remote[1:]  # the first round warms up
    return {
        "dtype": dtype,
        "gateway_own_ms_per_token": {name: round(1000 * s, 3) for name, s in overhead.items()},
        "local_tokens_per_s": round(statistics.median(local), 2),
        "gateway_tokens_per_s": round(statistics.median(remote), 2),
        "ratio": round(statistics.median(remote) / statistics.median(local), 3),
        "ratios": [round(ours / plain, 3) for ours, plain in zip(remote, local, strict=True)],
    }


if __name__ == "__main__":
    main()
