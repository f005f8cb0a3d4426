"""A program for the Python of the Petals release: more of its client than `interop.py` shows.

    release_client.py MODEL PREFIX TASKS ANSWERS MADDR...

TASKS is a file of `torch.save` with pairs: the name of a function below, and its arguments. ANSWERS
will be one with what they return. Imports nothing of ours: it runs in the release's environment.
"""

import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import petals_compat  # type: ignore[import-not-found]  # noqa: F401  (must be first)
import psutil
import torch
from petals import AutoDistributedModelForCausalLM  # type: ignore[import-not-found]


def generate(model: Any, token_ids: Any, num_beams: int, num_new: int) -> Any:
    """Return the tokens of a beam search, or a greedy one for one beam; the prompt's included."""
    return model.generate(token_ids, max_new_tokens=num_new, num_beams=num_beams, do_sample=False)


def run_session(model: Any, chunks: list[Any], prompts: Any) -> list[Any]:
    """Return the outputs of a session over all blocks, whose first step has deep prompts."""
    max_length = sum(chunk.shape[1] for chunk in chunks)
    blocks = model.transformer.h
    with torch.inference_mode(), blocks.inference_session(max_length=max_length) as session:
        first, *others = chunks
        return [session.step(first, prompts), *(session.step(chunk) for chunk in others)]


def train(model: Any, hidden: Any, prompts: Any, grad_outputs: Any) -> list[Any]:
    """Return the outputs of all blocks, and the gradients of hidden states and deep prompts."""
    inputs = [hidden.requires_grad_(), prompts.requires_grad_()]
    outputs = model.transformer.h(*inputs)
    return [outputs.detach(), *torch.autograd.grad(outputs, inputs, grad_outputs)]


def main() -> None:
    """Do the tasks and end, leaving no child behind.

    Nothing collects garbage meanwhile. The release fails to close a session when a server ends its
    stream before the client has written its last message; `__del__` then tries once more, and where
    that runs in the thread of the client's event loop it waits for that very thread, for ever.
    """
    gc.disable()
    directory, prefix, tasks_path, answers_path, *maddrs = sys.argv[1:]
    torch.set_num_threads(1)
    model = AutoDistributedModelForCausalLM.from_pretrained(
        directory,
        initial_peers=maddrs,
        dht_prefix=prefix,
        torch_dtype=torch.float32,
        show_route=False,
        max_retries=1,
    )
    functions: dict[str, Callable[..., Any]] = {
        function.__name__: function for function in (generate, run_session, train)
    }
    tasks = torch.load(tasks_path)
    torch.save([functions[name](model, **arguments) for name, arguments in tasks], answers_path)
    for child in psutil.Process().children(recursive=True):  # its DHT and its daemon
        child.kill()
    os._exit(0)


main()
