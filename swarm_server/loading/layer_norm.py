"""Layer norms with weight and bias, as BLOOM and Falcon have them."""

from swarm_server.engine.norms import LayerNorm
from swarm_server.loading.block_tensors import BlockTensors


def load_layer_norm(tensors: BlockTensors, name: str, size: int, eps: float) -> LayerNorm:
    """Return the norm called `name`. Raises CheckpointError."""
    return LayerNorm(tensors.read(f"{name}.weight", size), tensors.read(f"{name}.bias", size), eps)
