"""A distributed model that transformers' own `generate` can drive.

To transformers it is a `PreTrainedModel`, and an inference session is its KV cache.
"""

from contextlib import closing
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

from swarm_client.blocking_session import BlockingSession
from swarm_client.generation.options import check_options, read_option
from swarm_client.generation.padding import RowGroup
from swarm_client.generation.prompt import check_prompt
from swarm_client.generation.resumption import Resumption
from swarm_client.models.distributed_model import DistributedModel
from swarm_client.models.local_parts import LocalParts
from swarm_client.models.remote_kv_cache import RemoteKVCache
from swarm_client.models.session_length import wanted_length
from swarm_client.models.shared_head import SharedHead
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
        self._shared_head = SharedHead()
        self.loss_type = "ForCausalLM"  # otherwise guessed from the class's name

    def forward(  # noqa: PLR0913  (transformers' signature)
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: RemoteKVCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """Return float32 logits `[batch, num_tokens, vocab_size]` of the tokens, and the loss.

        Args:
            input_ids: int64 `[batch, num_tokens]`; or else `inputs_embeds`.
            attention_mask: 0 for padding on the left; what comes out there means nothing.
                Without a session, padding on the right is no harm either.
            past_key_values: sessions to continue; by default the active one, or none.
            inputs_embeds: `[batch, num_tokens, hidden_size]`.
            labels: int64 `[batch, num_tokens]`: the tokens themselves, -100 for those that count
                for nothing. With them, the mean loss of each token after those before it.
            use_cache: accepted and ignored; servers always keep one.
            logits_to_keep: only that many last tokens get logits; 0 is all.
            return_dict: accepted and ignored; the result serves as both.

        Raises:
            PaddingError: padding elsewhere, or in a session.
            ValueError: both or neither of `input_ids` and `inputs_embeds` are given.
            SwarmError: see `RemoteSequential.forward`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        embeds = inputs_embeds
        if embeds is None:
            embeds = self.transformer.word_embeddings(input_ids)
        cache = past_key_values
        if cache is None and self.active_session is not None:
            cache = RemoteKVCache(self.active_session)
        if cache is None:
            hidden = self.run_padded_trunk(embeds, attention_mask)
        else:
            only_last = logits_to_keep == 1
            hidden = cache.run(embeds, attention_mask, self.run_trunk, only_last=only_last)
        logits = self._logits(hidden[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=logits.shape[-1])
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)

    def generate(
        self,
        inputs: Tensor | None = None,
        *,
        session: BlockingSession | None = None,
        **options: Any,  # whatever transformers' generate takes
    ) -> Any:
        """Generate as transformers does; in a session, continue what it holds.

        Prompts of unequal length are padded on the left, as transformers wants it.

        Args:
            inputs: int64 `[batch, num_tokens]`, new tokens only; None to continue a session.
            session: to continue; by default the active one, or a new one for this call, for
                which `max_length` or `max_new_tokens` is needed.
            options: of transformers' `generate`. `max_length` counts all tokens of the session.

        Returns:
            The new inputs and what follows, `[batch, num_tokens]`; not what came before.

        Raises:
            LengthNotGivenError: both or neither length is given, and there is no session.
            InvalidParametersError: an option that remote blocks cannot honour.
            PaddingError: padding elsewhere than on the left, or in a session.
            MaxLengthExceededError: the session is full; it stays where it was.
            ValueError: the inputs are no tokens of this model.
            SwarmError: see `InferenceSession.step`; a session stays where it was, or is closed.
        """
        inputs = options.pop("input_ids", inputs)
        check_options(options, self.generation_config)
        if read_option("use_cache", options, self.generation_config) is False:
            options["use_cache"] = True  # otherwise every step would bring all tokens again
        if read_option("prefill_chunk_size", options, self.generation_config) is not None:
            options["prefill_chunk_size"] = None  # sessions cut long prompts by themselves
        session = session or self.active_session
        if inputs is not None:
            vocab_size = self.transformer.word_embeddings.weight.shape[0]
            check_prompt(inputs, vocab_size, may_be_empty=session is not None)
        with self.transformer.h.without_session():  # for processors that run the model themselves
            if session is None:
                return self._generate_anew(inputs, options)
            return self._continue(session, inputs, options)

    def _logits(self, hidden: Tensor) -> Tensor:
        """Threads that only want logits share a product; gradients go straight through."""
        if torch.is_grad_enabled():
            logits: Tensor = self.lm_head(hidden).float()
            return logits
        rows = self._shared_head.run(self.lm_head, hidden.flatten(0, 1))
        return rows.view(*hidden.shape[:2], rows.shape[-1])

    def _num_tuned(self) -> int:
        return 0 if self.prompt_tuning is None else self.prompt_tuning.pre_seq_len

    def _generate_anew(self, inputs: Tensor | None, options: dict[str, Any]) -> Any:
        prompt = options.get("inputs_embeds") if inputs is None else inputs
        num_tokens = wanted_length(prompt, options) + self._num_tuned()
        if options.get("max_length") is not None:
            options["max_new_tokens"] = None  # the checkpoint's own would go before it

        def open_session(group: RowGroup) -> BlockingSession:
            return self.transformer.h.open_session(
                max_length=num_tokens - group.num_padding, batch_size=len(group.rows)
            )

        with closing(RemoteKVCache(opener=open_session)) as cache:
            return super().generate(inputs, past_key_values=cache, **options)

    def _continue(
        self, session: BlockingSession, inputs: Tensor | None, options: dict[str, Any]
    ) -> Any:
        """Run `generate` over all token ids of the session; only those not yet run are fed."""
        resumption = Resumption(session, inputs, options)
        cache = RemoteKVCache(session)
        with resumption.restored_on_failure():
            result = super().generate(resumption.input_ids, past_key_values=cache, **options)
        return resumption.finish(result, were_beams=cache.was_reordered)
