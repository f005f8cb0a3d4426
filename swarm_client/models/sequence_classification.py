"""A distributed model that sorts texts into classes, or scores them."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from swarm_client.errors import InvalidParametersError
from swarm_client.models.distributed_model import DistributedModel
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.pooling import last_token_indices
from swarm_client.remote import RemoteSequential
from swarm_client.tuning import PromptTuning


class DistributedModelForSequenceClassification(DistributedModel):
    """A distributed model with a head of its own. Subclassed once per family.

    Attributes:
        score: trainable, float32: hidden states to `config.num_labels` scores. New heads are
            random; `load_trained` brings a trained one.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        parts: LocalParts,
        h: RemoteSequential,
        prompt_tuning: PromptTuning | None = None,
    ) -> None:
        super().__init__(config, parts, h, prompt_tuning)
        self.score = self._new_score()
        self.loss_type = "ForSequenceClassification"  # otherwise guessed from the class's name

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        num_labels: int | None = None,
        problem_type: str | None = None,
        **options: Any,  # those of DistributedModel.from_pretrained, which checks them
    ) -> Self:
        """Return a model with a new head; see `DistributedModel.from_pretrained`.

        Args:
            name_or_path: a directory, or a hub repository.
            num_labels: classes to tell apart; by default the number in config.json, or else 2.
            problem_type: which loss, in transformers' words; by default as the labels suggest.
            options: of `DistributedModel.from_pretrained`.

        Raises:
            InvalidParametersError: `num_labels` is no positive number.
        """
        if num_labels is not None and num_labels < 1:
            raise InvalidParametersError("num_labels", "at least 1", num_labels)
        model = super().from_pretrained(name_or_path, **options)
        if problem_type is not None:
            model.config.problem_type = problem_type
        if num_labels is not None and num_labels != model.config.num_labels:
            model.config.num_labels = num_labels
            model.score = model._new_score()
        return model

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutputWithPast:
        """Return float32 logits `[batch, num_labels]` of each row's last token, and the loss.

        Args:
            input_ids: int64 `[batch, num_tokens]`, padded with `config.pad_token_id`; or else
                `inputs_embeds`.
            attention_mask: 0 for padding on either side; needed for padding on the left.
            inputs_embeds: `[batch, num_tokens, hidden_size]`, without padding on the right.
            labels: `[batch]` classes or numbers, or `[batch, num_labels]`; with them, a loss.
            return_dict: accepted and ignored; the result serves as both.

        Raises:
            PaddingError: padding between tokens, or a row of nothing else.
            ValueError: both or neither of `input_ids` and `inputs_embeds` are given, or rows
                have no `config.pad_token_id` to find their ends by.
            SwarmError: see `RemoteSequential.forward`.
        """
        embeds, ends = self._embeds_and_ends(input_ids, inputs_embeds)
        hidden = self.run_padded_trunk(embeds, attention_mask)
        pooled = hidden[torch.arange(len(hidden), device=ends.device), ends]
        logits = self.score(pooled.to(self.score.weight.dtype)).float()
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, pooled_logits=logits, config=self.config
            )
        return SequenceClassifierOutputWithPast(loss=loss, logits=logits)

    def _embeds_and_ends(
        self, input_ids: Tensor | None, inputs_embeds: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return word embeddings, and int64 `[batch]`: which of them ends each row."""
        if input_ids is not None and inputs_embeds is None:
            ends = last_token_indices(input_ids, self.config.pad_token_id)
            return self.transformer.word_embeddings(input_ids), ends
        if inputs_embeds is not None and input_ids is None:
            batch_size, num_tokens, _ = inputs_embeds.shape
            return inputs_embeds, inputs_embeds.new_full(
                (batch_size,), num_tokens - 1, dtype=torch.int64
            )
        raise ValueError("give either input_ids or inputs_embeds")

    def _new_score(self) -> nn.Linear:
        embedding = self.transformer.word_embeddings.weight
        score = nn.Linear(
            embedding.shape[1], self.config.num_labels, bias=False, device=embedding.device
        )
        nn.init.normal_(score.weight, std=self.config.initializer_range)
        return score
