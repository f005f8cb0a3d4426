"""A distributed model that transformers' own `generate` can drive.

To transformers it is a `PreTrainedModel`, and an inference session is its KV cache.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

from swarm_client.blocking_session import BlockingSession
from swarm_client.models.distributed_model import DistributedModel
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.remote_kv_cache import RemoteKVCache
from swarm_client.models.session_length import wanted_length
from swarm_client.remote import RemoteSequential
from swarm_client.tuning import PromptTuning


class DistributedCausalLM(DistributedModel, GenerationMixin):  # type: ignore[misc]  # not followed
    """A distributed model with an LM head. Subclassed once per family for its `config_class`.

    Attributes:
        lm_head: hidden states to logits.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        parts: LocalParts,
        h: RemoteSequential,
        prompt_tuning: PromptTuning | None = None,
    ) -> None:
        super().__init__(config, parts, h, prompt_tuning)
        self.lm_head = parts.lm_head

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
        embeds = inputs_embeds
        if embeds is None:
            embeds = self.transformer.word_embeddings(input_ids)
        session = None if past_key_values is None else past_key_values.session
        hidden = self.run_trunk(embeds, session)
        logits = self.lm_head(hidden[:, -logits_to_keep:]).float()
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
        session = session or self.active_session
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
