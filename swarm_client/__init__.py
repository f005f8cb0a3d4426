"""The library: turns "generate" into steps over spans held by remote servers.

Entry points: `AutoDistributedModelForCausalLM` and `SwarmConnection`; the classes of each family
(`DistributedBloomForCausalLM` …) are here too. Must not know HTTP or the block server. Names are
loaded when first used, because transformers takes seconds to import and only the model classes
need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from swarm_client.auto import (
        AutoDistributedModelForCausalLM,
        AutoDistributedModelForSequenceClassification,
    )
    from swarm_client.blocking_session import BlockingSession
    from swarm_client.connection import RemoteModel, SwarmConnection
    from swarm_client.models import model_classes
    from swarm_client.models.model_classes import *  # noqa: F403  (a family is added there only)
    from swarm_client.remote import RemoteSequential
    from swarm_client.session import InferenceSession
    from swarm_client.settings import RoutingSettings

__all__ = [
    "AutoDistributedModelForCausalLM",
    "AutoDistributedModelForSequenceClassification",
    "BlockingSession",
    "InferenceSession",
    "RemoteModel",
    "RemoteSequential",
    "RoutingSettings",
    "SwarmConnection",
]
if TYPE_CHECKING:
    __all__ += model_classes.__all__

_MODULES: Final = {
    "AutoDistributedModelForCausalLM": "auto",
    "AutoDistributedModelForSequenceClassification": "auto",
    "BlockingSession": "blocking_session",
    "InferenceSession": "session",
    "RemoteModel": "connection",
    "RemoteSequential": "remote",
    "RoutingSettings": "settings",
    "SwarmConnection": "connection",
}


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None and name.startswith("Distributed"):
        module = "models.model_classes"
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
