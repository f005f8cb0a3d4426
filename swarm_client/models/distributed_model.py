"""What all distributed models share: local embeddings, blocks on servers, a local final norm.

To transformers it is a `PreTrainedModel`. Knows neither heads nor generation.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar, Self, Unpack

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from swarm_client.blocking_model import BlockingModel, NodeFactory, node_that_joins
from swarm_client.blocking_session import BlockingSession
from swarm_client.generation.padding import group_rows, join_groups
from swarm_client.models.config_fields import text_config
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.registry import find_family, load_local_parts, read_facts
from swarm_client.petals_settings import PetalsSettings, routing_settings
from swarm_client.remote import RemoteSequential
from swarm_client.settings import RoutingSettings
from swarm_client.tuning import (
    PromptTuning,
    TrainedFor,
    load_trained,
    make_prompt_tuning,
    save_trained,
)
from swarm_protocol.checkpoint import Checkpoint, HubSettings, choose_dtype
from swarm_protocol.errors import UnsupportedModelError


class Trunk(nn.Module):
    """Everything below the head, under the names that Petals gives it in every family."""

    def __init__(self, parts: LocalParts, h: RemoteSequential) -> None:
        super().__init__()
        self.word_embeddings = parts.word_embeddings
        self.word_embeddings_layernorm = getattr(parts, "word_embeddings_layernorm", nn.Identity())
        self.h = h
        self.ln_f = parts.ln_f


class DistributedModel(PreTrainedModel):  # type: ignore[misc]  # mypy does not follow transformers
    """Embeddings and final norm are here, the blocks on servers; subclasses add a head.

    Attributes:
        transformer: has `word_embeddings`, `word_embeddings_layernorm` (the identity but for
            BLOOM), `h` (the blocks) and `ln_f`.
        prompt_tuning: trainable prompts, or None.
        trained_for: what is trained on this model is for this.
    """

    config_class: ClassVar[type[PreTrainedConfig]]

    def __init__(
        self,
        config: PreTrainedConfig,
        parts: LocalParts,
        h: RemoteSequential,
        prompt_tuning: PromptTuning | None = None,
    ) -> None:
        super().__init__(config)
        self.transformer = Trunk(parts, h)
        self.prompt_tuning = prompt_tuning
        self.trained_for = TrainedFor.of(parts.facts, prompt_tuning)
        self.eval()

    @classmethod
    def from_pretrained(  # noqa: PLR0913  (Petals' signature, all but one by keyword)
        cls,
        name_or_path: str,
        *,
        initial_peers: Sequence[str] = (),
        dht_prefix: str | None = None,
        torch_dtype: str | torch.dtype | None = None,
        tuning_mode: str | None = None,
        pre_seq_len: int = 0,
        active_adapter: str | None = None,
        device: str = "cpu",
        revision: str | None = None,
        hub: HubSettings | None = None,
        routing: RoutingSettings | None = None,
        node_factory: NodeFactory | None = None,
        **petals: Unpack[PetalsSettings],
    ) -> Self:
        """Read the local parts of a model and join the swarm that serves its blocks.

        Args:
            name_or_path: a directory, or a hub repository.
            initial_peers: multiaddrs of peers of the swarm.
            dht_prefix: name under which the servers meet; derived from the model by default.
            torch_dtype: of the local parts; by default what suits checkpoint and machine.
            tuning_mode: `ptune`, `deep_ptune`, or None for no trainable prompts.
            pre_seq_len: how many trainable prompts, with a `tuning_mode`.
            active_adapter: the servers' adapter to use.
            device: of the local parts.
            revision: of the hub repository.
            hub: where the hub is, and how much of the disk its files may take.
            routing: how servers are picked.
            node_factory: makes the node, in place of one that joins `initial_peers`.
            petals: fields of `routing` under Petals' names.

        Raises:
            ValueError, TypeError: an option is not known or out of range.
            CheckpointError: there is no such model, or its files do not fit.
            NodeError, DeadlineExceededError: the swarm cannot be joined.
        """
        factory = node_factory or node_that_joins(initial_peers)
        settings = routing_settings(routing, **petals)
        checkpoint = Checkpoint.open(name_or_path, revision=revision, hub=hub or HubSettings())
        facts = read_facts(checkpoint, dht_prefix=dht_prefix)
        dtype_name = str(torch_dtype or "auto").removeprefix("torch.")
        dtype = choose_dtype(dtype_name, checkpoint.dtype_name, device)
        tuning = make_prompt_tuning(
            facts, tuning_mode=tuning_mode, pre_seq_len=pre_seq_len, dtype=dtype, device=device
        )
        config = cls._config_of(checkpoint)
        parts = load_local_parts(checkpoint, dtype=dtype, device=device)
        remote = BlockingModel.connect(facts, factory, settings, active_adapter=active_adapter)
        model = cls(config, parts, RemoteSequential(remote), tuning)
        generation = checkpoint.read_json("generation_config.json")
        if generation is not None:
            model.generation_config = GenerationConfig.from_dict(generation)
        return model

    @classmethod
    def _config_of(cls, checkpoint: Checkpoint) -> PreTrainedConfig:
        """Return transformers' config. Raises UnsupportedModelError for one of another family."""
        if cls.config_class.model_type not in find_family(checkpoint).model_types:
            raise UnsupportedModelError(checkpoint.model_type, [cls.config_class.model_type])
        return cls.config_class.from_dict(dict(text_config(checkpoint)))

    def inference_session(
        self, max_length: int, batch_size: int = 1
    ) -> AbstractContextManager[BlockingSession]:
        """Return a context in which `forward` and `generate` share one session."""
        return self.transformer.h.inference_session(max_length, batch_size)

    def use_session(self, session: BlockingSession) -> AbstractContextManager[BlockingSession]:
        """Return a context in which an open session is the one; it stays open afterwards."""
        return self.transformer.h.use_session(session)

    @property
    def active_session(self) -> BlockingSession | None:
        """The session that `forward` and `generate` use in this context."""
        return self.transformer.h.active_session

    def save_trained(self, directory: str | Path) -> None:
        """Write every parameter that wants gradients; see `swarm_client.tuning.save_trained`."""
        save_trained(self, self.trained_for, directory)

    def load_trained(self, directory: str | Path) -> None:
        """Read what `save_trained` wrote; see `swarm_client.tuning.load_trained`."""
        load_trained(self, self.trained_for, directory)

    def close(self) -> None:
        """Leave the swarm. Idempotent."""
        self.transformer.h.close()

    def run_trunk(
        self,
        inputs_embeds: Tensor,
        session: BlockingSession | None = None,
        *,
        hypo_ids: Tensor | None = None,
        only_last: bool = False,
    ) -> Tensor:
        """Take word embeddings through prompt tuning, the blocks and the final norm.

        Args:
            inputs_embeds: `[batch, num_tokens, hidden_size]`, before any embedding norm.
            session: to continue; by default the active one, or none: a sequence of its own.
            hypo_ids: int64 `[batch]`: the row whose KV cache each row continues.
            only_last: in a session: only each row's last token is wanted.

        Returns:
            `[batch, num_tokens or 1, hidden_size]`: what the head takes, without tuned prompts.
        """
        session = session or self.active_session
        tuning = self.prompt_tuning if session is None or session.position == 0 else None
        embeds = inputs_embeds if tuning is None else tuning.prepend(inputs_embeds)
        prompts = None if tuning is None else tuning.deep_prompts(embeds.shape[0])
        with nullcontext() if session is None else self.use_session(session):
            embeds = self.transformer.word_embeddings_layernorm(embeds)
            hidden = self.transformer.h(
                embeds, prompts=prompts, hypo_ids=hypo_ids, only_last=only_last
            )
        if tuning is not None:
            hidden = hidden if only_last else hidden[:, tuning.pre_seq_len :]
            if session is not None:
                session.num_tuned = tuning.pre_seq_len
        normed: Tensor = self.transformer.ln_f(hidden)
        return normed

    def run_padded_trunk(self, inputs_embeds: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Run sequences of their own, padded or not; see `run_trunk`.

        Args:
            inputs_embeds: `[batch, num_tokens, hidden_size]`.
            attention_mask: `[batch, num_tokens]`, 0 for padding on either side; None is all ones.

        Raises:
            PaddingError: padding between tokens, or a row of nothing else.
        """
        groups = group_rows(attention_mask, len(inputs_embeds), may_trail=True)
        if len(groups) == 1 and groups[0].num_padding == 0:
            return self.run_trunk(inputs_embeds)
        outputs = [
            self.run_trunk(inputs_embeds[group.rows.to(inputs_embeds.device), group.num_padding :])
            for group in groups
        ]
        return join_groups(outputs, groups, inputs_embeds.shape[1])
