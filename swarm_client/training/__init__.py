"""Forward and backward passes through remote blocks, outside inference sessions.

Entry points: `TrainingPasses` (asynchronous) and `run_blocks` (torch, with autograd). Must not
know models, sessions or KV caches.
"""

from swarm_client.training.autograd import run_blocks
from swarm_client.training.passes import ForwardResult, TrainingPasses
from swarm_client.training.span_calls import Gradients, SpanCalls
from swarm_client.training.sub_batches import MAX_TOKENS
from swarm_client.training.tape import Tape

__all__ = [
    "MAX_TOKENS",
    "ForwardResult",
    "Gradients",
    "SpanCalls",
    "Tape",
    "TrainingPasses",
    "run_blocks",
]
