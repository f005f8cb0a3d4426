"""What a caller trains on its own side of a model: prompts, heads, and files of them.

Entry points: `make_prompt_tuning`, `save_trained` and `load_trained`. Must not know servers, nor
import transformers.
"""

from swarm_client.tuning.errors import TrainedPartsError, TrainedPartsMismatchError
from swarm_client.tuning.prompt_tuning import PromptTuning, TuningMode, make_prompt_tuning
from swarm_client.tuning.trained_parts import TrainedFor, load_trained, save_trained

__all__ = [
    "PromptTuning",
    "TrainedFor",
    "TrainedPartsError",
    "TrainedPartsMismatchError",
    "TuningMode",
    "load_trained",
    "make_prompt_tuning",
    "save_trained",
]
