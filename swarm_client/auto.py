"""Picks the class for a checkpoint."""

from typing import Any, Final

from swarm_client.models.causal_lm import DistributedCausalLM
from swarm_client.models.llama_causal_lm import DistributedLlamaForCausalLM
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import UnsupportedModelError

_CLASSES: Final[dict[str, type[DistributedCausalLM]]] = {"llama": DistributedLlamaForCausalLM}


class AutoDistributedModelForCausalLM:
    """Makes the distributed model of whatever family a checkpoint is of."""

    @staticmethod
    def from_pretrained(
        name_or_path: str,
        *,
        revision: str | None = None,
        **options: Any,  # those of DistributedCausalLM.from_pretrained, which checks them
    ) -> DistributedCausalLM:
        """Return a model; see `DistributedCausalLM.from_pretrained` for options and errors.

        Raises:
            UnsupportedModelError: no class for the architecture.
        """
        model_type = Checkpoint.open(name_or_path, revision=revision).model_type
        family = _CLASSES.get(model_type)
        if family is None:
            raise UnsupportedModelError(model_type, tuple(_CLASSES))
        return family.from_pretrained(name_or_path, revision=revision, **options)
