"""A model directory, loaded with stock transformers classes to be asked something."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.training.documents import Conversation

_CONVERSATIONS_AT_ONCE = 32
_MAX_NEW_TOKENS = 256


class LoadedModel:
    """Answers conversations in float32 on one device."""

    def __init__(self, directory: Path, *, device: str = "cpu") -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self._model = model.to(device).eval()

    def answer(
        self, conversations: Sequence[Conversation], *, do_sample: bool = False
    ) -> list[str]:
        """The answer to each conversation's last message, greedy or as the directory samples."""
        answers: list[str] = []
        for start in range(0, len(conversations), _CONVERSATIONS_AT_ONCE):
            answers += self._answer_together(
                conversations[start : start + _CONVERSATIONS_AT_ONCE], do_sample=do_sample
            )
        return answers

    def _answer_together(
        self, conversations: Sequence[Conversation], *, do_sample: bool
    ) -> list[str]:
        inputs = self._tokenizer.apply_chat_template(
            [[asdict(message) for message in one] for one in conversations],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        ).to(self._model.device)
        sampling = {} if do_sample else {"do_sample": False, "temperature": None, "top_p": None}
        token_ids = self._model.generate(**inputs, max_new_tokens=_MAX_NEW_TOKENS, **sampling)
        prompt_length = inputs["input_ids"].shape[1]
        answers: list[str] = self._tokenizer.batch_decode(
            token_ids[:, prompt_length:], skip_special_tokens=True
        )
        return answers
