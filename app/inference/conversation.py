"""A conversation with a model: an inference session, and the tokens that are its context."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from torch import Tensor

from app.inference.errors import EmptyPromptError
from app.inference.generated_output import GeneratedOutput
from app.inference.output_text import Cut
from app.inference.replica import SampledToken
from app.inference.requests import FinishReason, GenerationEvent, GenerationRequest, TokenTimings
from app.inference.served_model import ServedModel
from app.inference.waits import Waits
from swarm_client.errors import (
    MaxLengthExceededError,
    RollbackUnsupportedError,
    SessionClosedError,
    SessionLostError,
)
from swarm_client.session import InferenceSession
from swarm_client.session.events import EventListener, HopRestored
from swarm_protocol.identifiers import BlockRange

_MAX_RESTARTS: Final = 3
"""Of a session within one token, from token ids."""


@dataclass(slots=True)
class _Generation:
    """State of one generation. `hidden`, `[1, num_pending, hidden_size]`, is the next input."""

    session: InferenceSession
    hidden: Tensor
    output: GeneratedOutput
    max_tokens: int
    num_tokens: int = 0


class SwarmConversation:
    """`Conversation` on a swarm.

    ```
    token_ids:  [ prompt ][ output ][ prompt ][ output ]
                                              position ^ the last token has been chosen, not run
    ```
    Tokens behind `position` are pending: the next `generate` runs them in front of its prompt.
    One generation at a time.
    """

    def __init__(
        self,
        model: ServedModel,
        session: InferenceSession,
        *,
        tenant: str = "",
        on_event: EventListener | None = None,
    ) -> None:
        self._model = model
        self._tenant = tenant
        self._on_event = on_event
        self._max_length = session.max_length
        self._session: InferenceSession | None = session  # None: to be opened anew, or closed
        self._token_ids: list[int] = []
        self._is_closed = False
        self.closed = asyncio.Event()
        """Set once nobody holds anything of it any more."""

    @classmethod
    async def open(
        cls,
        model: ServedModel,
        *,
        max_length: int,
        tenant: str = "",
        on_event: EventListener | None = None,
    ) -> "SwarmConversation":
        """Open an inference session for it. Raises as `RemoteModel.open_session` does."""
        session = await model.remote.open_session(
            max_length=max_length, tenant=tenant, on_event=on_event
        )
        return cls(model, session, tenant=tenant, on_event=on_event)

    @property
    def model_id(self) -> str:
        """The model it talks to."""
        return self._model.id

    @property
    def max_length(self) -> int:
        """Tokens it may hold, prompt and output."""
        return self._max_length

    @property
    def token_ids(self) -> Sequence[int]:
        """All tokens so far."""
        return self._token_ids

    @property
    def position(self) -> int:
        """Tokens in the servers' KV caches."""
        return 0 if self._session is None else self._session.position

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Append the prompt, then yield an event per token; see `Conversation.generate`.

        Raises:
            EmptyPromptError: there is nothing to continue.
        """
        has_ended = False
        try:
            generation = await self._begin(request)
            while not has_ended:
                event = await self._next_event(generation)
                has_ended = event.finish_reason is not None
                yield event
        finally:
            if not has_ended:
                await self.close()

    async def close(self) -> None:
        """Free everything. Idempotent; never raises."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        self.closed.set()

    async def _begin(self, request: GenerationRequest) -> _Generation:
        """Append the prompt, and embed all pending tokens."""
        if self._is_closed:
            raise SessionClosedError
        self._append(request.prompt_ids, len(request.produced_ids))
        max_tokens = min(request.max_new_tokens, self._max_length - len(self._token_ids))
        output = await GeneratedOutput.begin(self._model, request, self._token_ids)
        self._token_ids += request.produced_ids
        if self.position == len(self._token_ids):  # the last one's output is needed once more
            await self._roll_back(self.position - 1)
        if self._session is None:
            self._session = await self._reopen(wait_s=0.0, on_event=self._on_event)
        return _Generation(
            session=self._session,
            hidden=await self._embed_pending(self._session),
            output=output,
            max_tokens=max_tokens,
            num_tokens=len(request.produced_ids),
        )

    async def _embed_pending(self, session: InferenceSession) -> Tensor:
        """Embed what is to be run; of a fresh session's tokens, servers may know the first ones."""
        if session.position == 0:
            await session.reuse_prefix(self._token_ids)
        return await self._model.replicas.embed(self._token_ids[session.position :])

    def _append(self, prompt_ids: Sequence[int], num_produced: int) -> None:
        """The prompt must leave room for what is produced already, and for one new token."""
        if not prompt_ids and not self._token_ids:
            if self._model.facts.bos_token_id is None:
                raise EmptyPromptError
            prompt_ids = (self._model.facts.bos_token_id,)
        position, num_tokens = len(self._token_ids), len(prompt_ids) + num_produced + 1
        if position + num_tokens > self._max_length:
            raise MaxLengthExceededError(position, num_tokens, self._max_length)
        self._token_ids += prompt_ids

    async def _reopen(self, *, wait_s: float, on_event: EventListener | None) -> InferenceSession:
        session = await self._model.remote.open_session(
            max_length=self._max_length, tenant=self._tenant, wait_s=wait_s, on_event=on_event
        )
        if self._is_closed:  # meanwhile
            await session.close()
            raise SessionClosedError
        return session

    async def _next_event(self, generation: _Generation) -> GenerationEvent:
        """Make one token, and see whether it is the last."""
        token = await self._step(generation)
        output = generation.output
        timings = TokenTimings(token.queue_ms, generation.session.last_step.hops, token.head_ms)
        logprobs = () if token.logprob is None else (token.logprob,)
        text = output.push(token.token_id)
        if not output.has_ended and generation.num_tokens < generation.max_tokens:
            return GenerationEvent(text, (token.token_id,), None, timings, logprobs)
        text += output.finish()
        cut = output.cut()
        if cut is not None:
            await self._cut_output(cut, generation.num_tokens)
        reason = FinishReason.STOP if output.has_ended else FinishReason.LENGTH
        return GenerationEvent(text, (token.token_id,), reason, timings, logprobs)

    async def _step(self, generation: _Generation) -> SampledToken:
        """Run pending tokens through all blocks, and append the token that follows."""
        async with generation.output.filling_mask():
            hidden = await self._run(generation)
        token = await self._model.replicas.sample(hidden[0, -1], generation.output.row)
        self._token_ids.append(token.token_id)
        generation.hidden = token.embedding
        generation.num_tokens += 1
        return token

    async def _run(self, generation: _Generation) -> Tensor:
        """Run pending tokens."""
        since = monotonic()
        try:
            return await generation.session.step(generation.hidden, only_last=True)
        except SessionLostError as error:
            if not self._can_begin_anew(generation):
                raise
            lost = error.blocks
        return await self._begin_anew(generation, lost, since=since)

    async def _begin_anew(
        self, generation: _Generation, lost: BlockRange, *, since: float
    ) -> Tensor:
        """Run all tokens in another session, in place of one that has lost too much.

        It waits for servers as long as one that goes on: its caller has read a part of the answer.
        """
        waits = Waits(self._on_event)
        for num_left in reversed(range(_MAX_RESTARTS)):
            session = await self._reopen(wait_s=self._model.wait_for_blocks_s, on_event=waits.hear)
            waits.end()
            generation.session = self._session = session
            generation.hidden = await self._embed_pending(session)
            try:
                outputs = await session.step(generation.hidden, only_last=True)
            except SessionLostError:
                if not num_left or not self._can_begin_anew(generation):
                    raise
                continue
            num_tokens = generation.hidden.shape[1]
            waits.hear(HopRestored(lost, num_tokens, monotonic() - since, waits.waited_s))
            return outputs
        raise AssertionError("the last attempt returns or raises")

    def _can_begin_anew(self, generation: _Generation) -> bool:
        """Whether its session has ended by itself; one that has not may take the step again."""
        return not self._is_closed and generation.session.is_closed

    async def _cut_output(self, cut: Cut, num_tokens: int) -> None:
        """End the context with the stop text, so that the next prompt follows right behind it.

        Args:
            num_tokens: generated tokens at the end of the context.
        """
        if cut.num_tokens == num_tokens:
            return
        num_kept = len(self._token_ids) - num_tokens + cut.num_tokens
        del self._token_ids[num_kept:]
        if cut.rest:
            self._token_ids += await asyncio.to_thread(
                self._model.tokenizer.encode_behind, self._token_ids, cut.rest
            )
        await self._roll_back(num_kept)

    async def _roll_back(self, position: int) -> None:
        """Forget what the servers know from `position` on, if need be by starting over."""
        session = self._session
        if session is None or session.position <= position:
            return
        try:
            session.roll_back(position)
        except RollbackUnsupportedError:  # and its inputs were too many to keep
            self._session = None
            await session.close()
