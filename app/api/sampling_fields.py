"""Fields about sampling and stopping, alike in all dialects that follow OpenAI's or vLLM's."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.inference.requests import GenerationRequest, RequestId
from app.serving import OfferedModel
from swarm_client.generation.parameters import SamplingParameters

MAX_STOPS: Final = 16
MAX_BIASES: Final = 1024
_MAX_TOKEN_ID: Final = 2**31 - 1
_SHAPING: Final = ("temperature", "top_p", "top_k", "min_p")
_PENALTIES: Final = ("repetition_penalty", "presence_penalty", "frequency_penalty")


def one_or_many(value: object) -> object:
    """A list of texts may be given as one text: it is not a list of its characters."""
    return [value] if isinstance(value, str) else value


def _none_is_off(value: object) -> object:
    return 0 if value == -1 and not isinstance(value, bool) else value


StopText = Annotated[str, Field(min_length=1, max_length=1000)]
StopTexts = Annotated[
    Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None, BeforeValidator(one_or_many)
]
TokenId = Annotated[int, Field(ge=0, le=_MAX_TOKEN_ID)]
TokenIds = Annotated[list[TokenId], Field(max_length=MAX_STOPS)]
TokenName = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
"""A token id as a key of a JSON object."""


class SamplingFields(BaseModel):
    """How tokens are chosen, and which end the output. None is the model's default, or off.

    `logit_bias` is by token id. Ranges that are not here are those of `SamplingParameters`.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = None
    top_k: Annotated[int | None, BeforeValidator(_none_is_off)] = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Annotated[dict[TokenName, float], Field(max_length=MAX_BIASES)] | None = None
    seed: int | None = None
    stop: StopTexts = None
    stop_token_ids: TokenIds | None = None
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to name beside each token; None for no log-probabilities."""
        return None

    def to_request(
        self,
        request_id: RequestId,
        prompt_ids: Sequence[int],
        *,
        max_new_tokens: int,
        model: OfferedModel,
    ) -> GenerationRequest:
        """Return what the engine is asked.

        Raises:
            InvalidParametersError: a number is out of range.
        """
        sampling = self.sampling(model.chat_defaults)
        sampling.check_vocabulary(model.facts.vocab_size)
        return GenerationRequest(
            request_id=request_id,
            prompt_ids=tuple(prompt_ids),
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop=tuple(self.stop or ()),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            keeps_stop=self.include_stop_str_in_output is True,
            keeps_special_tokens=self.skip_special_tokens is False,
            ignore_eos=self.ignore_eos is True,
            num_logprobs=self.num_logprobs,
        )

    def sampling(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the sampling numbers: the caller's, else the model's.

        Temperature 0 takes the likeliest token; any other number that only matters for sampling
        turns sampling on.

        Raises:
            InvalidParametersError: one is out of range.
        """
        shaping = self._given(_SHAPING)
        given: dict[str, Any] = {**shaping, **self._given(_PENALTIES)}  # checked by what it is for
        if shaping.get("temperature") == 0:
            del given["temperature"]
            given["do_sample"] = False
        elif shaping:
            given["do_sample"] = True
        if self.logit_bias:
            given["logit_bias"] = tuple((int(name), bias) for name, bias in self.logit_bias.items())
        return replace(defaults, seed=self.seed, **given)

    def _given(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}
