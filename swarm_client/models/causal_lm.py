"""A distributed model that transformers' own `generate` can drive.

To transformers it is a `PreTrainedModel`, and an inference session is its KV cache.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from swarm_client.blocking_model import BlockingModel, NodeFactory, node_that_joins
from swarm_client.blocking_session import BlockingSession
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.registry import load_local_parts, read_facts
from swarm_client.models.remote_kv_cache import RemoteKVCache
from swarm_client.models.session_length import wanted_length
from swarm_client.remote import RemoteSequential
from swarm_client.settings import RoutingSettings
from swarm_protocol.checkpoint import Checkpoint, choose_dtype


class Trunk(nn.Module):
    """Everything below the LM head, under the names that Petals gives it in every family."""

    def __init__(self, word_embeddings: nn.Module, h: RemoteSequential, ln_f: nn.Module) -> None:
        super().__init__()
        self.word_embeddings = word_embeddings
        self.h = h
        self.ln_f = ln_f


class DistributedCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]  # not followed
    """Embedding, final norm and LM head are here, the blocks on servers.

    Subclassed once per family, which sets `config_class` and says how local parts are laid out.

    Attributes:
        transformer: has `word_embeddings`, `h` (the blocks) and `ln_f`.
        lm_head: hidden states to logits.
    """

    config_class: ClassVar[type[PreTrainedConfig]]

    def __init__(self, config: PreTrainedConfig, trunk: Trunk, lm_head: nn.Module) -> None:
        super().__init__(config)
        self.transformer = trunk
        self.lm_head = lm_head
        self.eval()

    @classmethod
    def assemble(cls, config: PreTrainedConfig, parts: LocalParts, h: RemoteSequential) -> Self:
        """Return the model made of these parts."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(  # noqa: PLR0913  (Petals' signature, all but one by keyword)
        cls,
        name_or_path: str,
        *,
        initial_peers: Sequence[str] = (),
        dht_prefix: str | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device: str = "cpu",
        revision: str | None = None,
        routing: RoutingSettings | None = None,
        node_factory: NodeFactory | None = None,
    ) -> Self:
        """Read the local parts of a model and join the swarm that serves its blocks.

        Args:
            name_or_path: a directory, or a hub repository.
            initial_peers: multiaddrs of peers of the swarm.
            dht_prefix: name under which the servers meet; derived from the model by default.
            torch_dtype: of the local parts; by default what suits checkpoint and machine.
            device: of the local parts.
            revision: of the hub repository.
            routing: how servers are picked.
            node_factory: makes the node, in place of one that joins `initial_peers`.

        Raises:
            CheckpointError: there is no such model, or its files do not fit.
            NodeError, DeadlineExceededError: the swarm cannot be joined.
        """
        factory = node_factory or node_that_joins(initial_peers)
        checkpoint = Checkpoint.open(name_or_path, revision=revision)
        facts = read_facts(checkpoint, dht_prefix=dht_prefix)
        dtype_name = str(torch_dtype or "auto").removeprefix("torch.")
        dtype = choose_dtype(dtype_name, checkpoint.dtype_name, device)
        parts = load_local_parts(checkpoint, dtype=dtype, device=device)
        config = cls.config_class.from_dict(checkpoint.config)
        remote = BlockingModel.connect(facts, factory, routing or RoutingSettings())
        model = cls.assemble(config, parts, RemoteSequential(remote))
        generation = checkpoint.read_json("generation_config.json")
        if generation is not None:
            model.generation_config = GenerationConfig.from_dict(generation)
        return model

    def inference_session(
        self, max_length: int, batch_size: int = 1
    ) -> AbstractContextManager[BlockingSession]:
        """Return a context in which `generate` and `forward` share one session."""
        return self.transformer.h.inference_session(max_length, batch_size)

    def close(self) -> None:
        """Leave the swarm. Idempotent."""
        self.transformer.h.close()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: RemoteKVCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """Return float32 logits `[batch, num_tokens, vocab_size]` of the tokens given.

        Args:
            input_ids: int64 `[batch, num_tokens]`; or else `inputs_embeds`.
            attention_mask: must be all ones: servers know no padding.
            past_key_values: a session to continue; by default the active one, or none.
            inputs_embeds: `[batch, num_tokens, hidden_size]`.
            use_cache: accepted and ignored; servers always keep one.
            logits_to_keep: only that many last tokens get logits; 0 is all.
            return_dict: accepted and ignored; the result serves as both.
        """
        if attention_mask is not None and not bool((attention_mask == 1).all()):
            raise ValueError("padding is not supported: the attention mask must be all ones")
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        hidden = inputs_embeds
        if hidden is None:
            hidden = self.transformer.word_embeddings(input_ids)
        blocks: RemoteSequential = self.transformer.h
        if past_key_values is None:
            hidden = blocks(hidden)
        else:
            with blocks.use_session(past_key_values.session):
                hidden = blocks(hidden)
        logits = self.lm_head(self.transformer.ln_f(hidden[:, -logits_to_keep:])).float()
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    def generate(
        self,
        inputs: Tensor | None = None,
        *,
        session: BlockingSession | None = None,
        **options: Any,  # whatever transformers' generate takes
    ) -> Any:
        """Generate as transformers does; in a session, continue what it holds.

        Args:
            inputs: int64 `[batch, num_tokens]`, new tokens only; None to continue a session.
            session: to continue; by default the active one, or a new one for this call, for
                which `max_length` or `max_new_tokens` is needed.
            options: of transformers' `generate`. `max_length` counts all tokens of the session.

        Returns:
            The new inputs and what follows, `[batch, num_tokens]`; not what came before.
        """
        inputs = options.pop("input_ids", inputs)
        session = session or self.transformer.h.active_session
        if session is not None:
            return self._continue(session, inputs, options)
        length, batch_size = wanted_length(inputs, options)
        with self.inference_session(length, batch_size) as session:
            return self._continue(session, inputs, options)

    def _continue(
        self, session: BlockingSession, inputs: Tensor | None, options: dict[str, Any]
    ) -> Any:
        """Run `generate` over all token ids of the session; only those not yet run are fed."""
        known = session.output_ids
        if known is not None:
            inputs = known if inputs is None else torch.cat([known, inputs.to(known.device)], 1)
            mask = options.get("attention_mask")
            if mask is None or bool((mask == 1).all()):
                options["attention_mask"] = torch.ones_like(inputs)
        if session.position and (inputs is None or session.position >= inputs.shape[1]):
            raise ValueError(f"no token after position {session.position} to continue from")
        result = super().generate(inputs, past_key_values=RemoteKVCache(session), **options)
        sequences = result if isinstance(result, Tensor) else result.sequences
        session.output_ids = sequences
        new = sequences if known is None else sequences[:, known.shape[1] :]
        if isinstance(result, Tensor):
            return new
        result.sequences = new
        return result
