"""Blocks of the Llama kind on a GPU: attention over pages in Triton, decode steps as CUDA graphs.

Entry point: `make_gpu_runner`, which falls back to the engine's own layers where these kernels do
not cover a span. Only it may be imported without Triton. Knows batches and pages, no sessions.
"""

from swarm_server.engine.cuda.runner_choice import make_gpu_runner

__all__ = ["make_gpu_runner"]
