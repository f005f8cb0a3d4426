"""Families of models: what runs locally, and the facts of a checkpoint.

Entry points: `read_facts` and `load_local_parts`; `model_classes` for what transformers drives. A
new architecture is a new module here and an entry in both. Must not know servers; only the model
classes, and what they are made of, may import transformers.
"""

from swarm_client.models.facts import ModelFacts
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.registry import load_local_parts, read_facts

__all__ = ["LocalParts", "ModelFacts", "load_local_parts", "read_facts"]
