"""The library: turns "generate" into steps over spans held by remote servers.

Entry points: `AutoDistributedModelForCausalLM` and `SwarmConnection`. Must not know HTTP or the
block server. Names are loaded when first used, because transformers takes seconds to import and
only the model classes need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from swarm_client.auto import AutoDistributedModelForCausalLM
    from swarm_client.blocking_session import BlockingSession
    from swarm_client.connection import RemoteModel, SwarmConnection
    from swarm_client.models.llama_causal_lm import DistributedLlamaForCausalLM
    from swarm_client.remote import RemoteSequential
    from swarm_client.session import InferenceSession
    from swarm_client.settings import RoutingSettings

__all__ = [
    "AutoDistributedModelForCausalLM",
    "BlockingSession",
    "DistributedLlamaForCausalLM",
    "InferenceSession",
    "RemoteModel",
    "RemoteSequential",
    "RoutingSettings",
    "SwarmConnection",
]

_MODULES: Final = {
    "AutoDistributedModelForCausalLM": "auto",
    "BlockingSession": "blocking_session",
    "DistributedLlamaForCausalLM": "models.llama_causal_lm",
    "InferenceSession": "session",
    "RemoteModel": "connection",
    "RemoteSequential": "remote",
    "RoutingSettings": "settings",
    "SwarmConnection": "connection",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
