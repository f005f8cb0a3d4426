"""A model's files, as client and server read them: config and safetensors, tensor by tensor.

Entry point: `Checkpoint.open`. Both ends of the wire read the same files and must agree on them,
which is why this lives here. Must not know families of models: what a tensor is for is theirs.
"""

from swarm_protocol.checkpoint.dtypes import choose_dtype, leaves_choice
from swarm_protocol.checkpoint.hub import HubSettings
from swarm_protocol.checkpoint.reader import Checkpoint

__all__ = ["Checkpoint", "HubSettings", "choose_dtype", "leaves_choice"]
