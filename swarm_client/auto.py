"""Picks the class for a checkpoint."""

from typing import Any, Literal, TypeAlias

from swarm_client.models import model_classes
from swarm_client.models.causal_lm import DistributedCausalLM
from swarm_client.models.registry import find_family
from swarm_client.models.sequence_classification import DistributedModelForSequenceClassification
from swarm_protocol.checkpoint import Checkpoint, HubSettings

Task: TypeAlias = Literal["CausalLM", "SequenceClassification"]


class AutoDistributedModelForCausalLM:
    """Makes the distributed language model of whatever family a checkpoint is of."""

    @staticmethod
    def from_pretrained(
        name_or_path: str,
        *,
        revision: str | None = None,
        hub: HubSettings | None = None,
        **options: Any,  # those of DistributedCausalLM.from_pretrained, which checks them
    ) -> DistributedCausalLM:
        """Return a model; see `DistributedCausalLM.from_pretrained` for options and errors.

        Raises:
            UnsupportedModelError: no class for the architecture; names those there are.
        """
        chosen: type[DistributedCausalLM] = _class_for("CausalLM", name_or_path, revision, hub)
        return chosen.from_pretrained(name_or_path, revision=revision, hub=hub, **options)


class AutoDistributedModelForSequenceClassification:
    """Makes the distributed classifier of whatever family a checkpoint is of."""

    @staticmethod
    def from_pretrained(
        name_or_path: str,
        *,
        revision: str | None = None,
        hub: HubSettings | None = None,
        **options: Any,  # those of the class's own from_pretrained, which checks them
    ) -> DistributedModelForSequenceClassification:
        """Return a model; see `DistributedModelForSequenceClassification.from_pretrained`.

        Raises:
            UnsupportedModelError: no class for the architecture; names those there are.
        """
        chosen: type[DistributedModelForSequenceClassification] = _class_for(
            "SequenceClassification", name_or_path, revision, hub
        )
        return chosen.from_pretrained(name_or_path, revision=revision, hub=hub, **options)


def _class_for(
    task: Task, name_or_path: str, revision: str | None, hub: HubSettings | None
) -> Any:  # by its name
    checkpoint = Checkpoint.open(name_or_path, revision=revision, hub=hub or HubSettings())
    family = find_family(checkpoint)
    return getattr(model_classes, f"Distributed{family.name}For{task}")
