"""What a caller trains on its own side of a model: prompts, heads, and files of them.

Entry point: `make_prompt_tuning`. Must not know servers, nor import transformers.
"""

from swarm_client.tuning.prompt_tuning import PromptTuning, TuningMode, make_prompt_tuning

__all__ = ["PromptTuning", "TuningMode", "make_prompt_tuning"]
