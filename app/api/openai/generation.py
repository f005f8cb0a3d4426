"""From the bodies of both older OpenAI dialects to the answers they ask for."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from app.api.answers.endpoint import AnswerPlan
from app.api.bodies import validate
from app.api.generation import with_seed
from app.api.openai.fields import CompletionFields
from app.api.unknown_fields import add_names
from app.callers import Caller
from app.context import AppContext
from app.errors import BadRequestError
from app.inference.requests import OutputConstraint, RequestId
from app.journals.entries import AnswerBegun
from app.observability.metrics import Surface
from app.output.formats import OutputFormat
from app.serving import OfferedModel

MAX_CHOICES: Final = 128

Fields = TypeVar("Fields", bound=CompletionFields)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The tokens of each prompt, one or more, and what all outputs look like.

    Attributes:
        unheeded: names of fields that the model's template does not look at.
    """

    token_ids: list[list[int]]
    constraint: OutputConstraint | None = None
    output: OutputFormat | None = None
    shown_special_ids: tuple[int, ...] = ()
    unheeded: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class OpenAIPlanner(Generic[Fields]):
    """`AnswerPlanner` of one dialect."""

    surface: Surface
    fields: type[Fields]
    encode: Callable[[OfferedModel, Fields], Awaitable[Prompts]]

    async def plan(
        self, context: AppContext, caller: Caller, request_id: RequestId, body: Mapping[str, Any]
    ) -> AnswerPlan:
        """Return what is wanted; see `AnswerPlanner`."""
        fields = validate(self.fields, body)
        ignored = fields.ignored_fields()
        model = context.gateway.engine.model(fields.model)
        read = await self.encode(model, fields)
        ignored = add_names(ignored, read.unheeded)
        prompts = read.token_ids
        num_choices = check_choices(fields, len(prompts))
        longest = max(map(len, prompts))
        request = fields.to_request(
            request_id,
            prompts[0],
            max_new_tokens=fields.max_new_tokens or default_new_tokens(context, model, longest),
            model=model,
        )
        request = replace(
            request, constraint=read.constraint, shown_special_ids=read.shown_special_ids
        )
        begun = AnswerBegun(
            surface=self.surface,
            model_id=model.id,
            created_at=int(time.time()),
            includes_usage=fields.includes_usage,
            includes_timings=fields.include_timings is True,
            request=with_seed(request) if fields.stream else request,
            more_prompts=tuple(map(tuple, prompts[1:])),
            num_choices=num_choices,
            output=read.output,
        )
        return AnswerPlan(begun, bool(fields.stream), ignored)


def check_choices(fields: CompletionFields, num_prompts: int) -> int:
    """Return how many choices each prompt gets.

    Raises:
        BadRequestError: together they are too many.
    """
    num_choices = fields.n or 1
    if num_choices * num_prompts > MAX_CHOICES:
        raise BadRequestError(
            f"n: expected at most {MAX_CHOICES} choices over all prompts, "
            f"got {num_choices} for each of {num_prompts}",
            "n",
        )
    return num_choices


def default_new_tokens(context: AppContext, model: OfferedModel, num_prompt: int) -> int:
    """Return how many tokens to generate without a wish of the caller: what fits, up to a default.

    A prompt that leaves no room asks for one token, so that the engine refuses it by its size.
    """
    room = max(1, model.facts.max_positions - num_prompt)
    return min(room, context.settings.limits.default_new_tokens)
