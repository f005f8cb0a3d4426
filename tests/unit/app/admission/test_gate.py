"""Slots, limits and accounts."""

import asyncio
import time
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from app.admission import Admission, CallerLeftError, Place
from app.callers import Caller
from app.errors import (
    BadRequestError,
    DrainingError,
    OutOfScopeError,
    QueueFullError,
    RateLimitedError,
    TooManyOpenError,
)
from app.inference.requests import FinishReason, GenerationEvent
from app.keys.grants import KeyScopes
from app.observability.metrics import Metrics, Surface
from app.settings import LimitSettings
from app.state.backoff import Backoff
from app.state.errors import StateUnavailableError
from app.state.fallback_limiter import FallbackRateLimiter
from app.state.memory import MemoryStateStore
from app.state.memory_limiter import MemoryRateLimiter
from app.state.rate_limits import LimitState, RateLimit, Reservation
from swarm_client.errors import NoRouteError, SessionClosedError

CALLER = Caller("key", "address")
LIMITS = LimitSettings(
    key_tokens_per_minute=1,
    key_burst_tokens=100,
    address_tokens_per_minute=0,
    max_generations=1,
    max_waiting=0,
)


def _admission(store: MemoryStateStore | None = None, limits: LimitSettings = LIMITS) -> Admission:
    return Admission((store or MemoryStateStore()).rate_limiter, limits, Metrics())


def _outcomes(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "swarmgate_requests_total"
    }


async def _end_with(
    admission: Admission, error: BaseException | None, *, cost: int = 0, prompt: int | None = None
) -> None:
    """One request that reserves `cost`, starts if it has a prompt, and ends with `error`."""
    async with admission.admit(Surface.CHAT) as account:
        await admission.reserve(account, CALLER, "demo", cost)
        if prompt is not None:
            account.start("demo", prompt)
        if error is not None:
            raise error
        account.add(GenerationEvent("a", (5,), FinishReason.LENGTH))


async def _remaining(store: MemoryStateStore) -> int:
    reservation = await store.rate_limiter.reserve([RateLimit("key", "key", 1, 100)], 0)
    return reservation.states[0].remaining


async def test_used_tokens_are_charged_and_the_rest_given_back() -> None:
    """Prompt and output both count."""
    store = MemoryStateStore()
    admission = _admission(store)

    async with admission.admit(Surface.CHAT) as account:
        await admission.reserve(account, CALLER, "demo", 90)
        account.start("demo", 10)
        account.add(GenerationEvent("a", (5, 6, 7, 8, 9), FinishReason.STOP))

    assert await _remaining(store) == 85


@pytest.mark.parametrize("error", [CallerLeftError(), SessionClosedError(), RuntimeError()])
async def test_reservation_is_settled_however_the_request_ends(error: Exception) -> None:
    """Nothing that was not used stays charged."""
    store = MemoryStateStore()
    admission = _admission(store)

    with pytest.raises(type(error)):
        await _end_with(admission, error, cost=90, prompt=10)

    assert await _remaining(store) == 90


async def test_request_that_never_started_costs_nothing() -> None:
    """The swarm had no route."""
    store = MemoryStateStore()
    admission = _admission(store)

    with pytest.raises(NoRouteError):
        await _end_with(admission, NoRouteError([]), cost=90)

    assert await _remaining(store) == 100


async def test_cancelled_request_is_settled_too() -> None:
    """The cancellation goes on."""
    store = MemoryStateStore()
    admission = _admission(store)
    is_in = asyncio.Event()

    async def request() -> None:
        async with admission.admit(Surface.CHAT) as account:
            await admission.reserve(account, CALLER, "demo", 90)
            is_in.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(request())
    await is_in.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await _remaining(store) == 100


async def test_request_cancelled_while_it_is_settled_is_settled_and_counted() -> None:
    """A caller may close the connection at the last token, when the store has not answered yet."""
    store, may_settle, is_settling = MemoryStateStore(), asyncio.Event(), asyncio.Event()

    class FarLimiter(MemoryRateLimiter):
        async def settle(
            self, reservation: Reservation, used_tokens: int
        ) -> tuple[LimitState, ...]:
            is_settling.set()
            await may_settle.wait()
            return await super().settle(reservation, used_tokens)

    store.rate_limiter = FarLimiter(time.time)
    metrics = Metrics()
    admission = Admission(store.rate_limiter, LIMITS, metrics)
    ending = asyncio.create_task(_end_with(admission, None, cost=50, prompt=10))
    await is_settling.wait()
    ending.cancel()
    await asyncio.sleep(0)
    may_settle.set()
    with pytest.raises(asyncio.CancelledError):
        await ending

    assert _outcomes(metrics.registry) == {"length": 1}
    assert await _remaining(store) == 89
    await admission.drain(60)


async def test_used_up_limit_says_when_to_come_back() -> None:
    """And tells the state of the limit."""
    admission = _admission()

    await _end_with(admission, None, cost=90, prompt=89)
    with pytest.raises(RateLimitedError) as raised:
        await _end_with(admission, None, cost=90)

    assert raised.value.retry_after_s > 60
    assert raised.value.headers["x-ratelimit-remaining-tokens"] == "10"


async def test_slot_is_free_again_after_the_request() -> None:
    """Also when it was refused later on."""
    admission = _admission()

    async with admission.admit(Surface.CHAT) as account:
        await admission.reserve(account, CALLER, "demo", 1)
        with pytest.raises(QueueFullError):
            await _end_with(admission, None)
    with pytest.raises(BadRequestError):
        await _end_with(admission, BadRequestError("no"))

    await _end_with(admission, None, prompt=1)


async def test_draining_waits_for_what_runs_and_refuses_the_rest() -> None:
    """Conversations, too."""
    admission = _admission()
    async with admission.admit(Surface.CHAT):
        await admission.drain(0.001)

    await admission.drain(60)

    with pytest.raises(DrainingError):
        async with admission.admit(Surface.CHAT):
            pass
    with pytest.raises(DrainingError), admission.place(Place.CONVERSATION, CALLER):
        pass


@pytest.mark.parametrize(
    ("error", "prompt", "outcome"),
    [
        (BadRequestError("no"), None, "refused"),
        (NoRouteError([]), None, "refused"),
        (SessionClosedError(), 1, "failed"),
        (RuntimeError(), None, "failed"),
        (CallerLeftError(), 1, "cancelled"),
    ],
)
async def test_request_is_counted_once_by_its_outcome(
    error: Exception, prompt: int | None, outcome: str
) -> None:
    """Whatever happened."""
    metrics = Metrics()
    admission = Admission(MemoryStateStore().rate_limiter, LIMITS, metrics)
    with pytest.raises(type(error)):
        await _end_with(admission, error, prompt=prompt)

    assert _outcomes(metrics.registry) == {outcome: 1}


async def test_caller_who_leaves_after_the_last_token_is_not_a_cancellation() -> None:
    """The answer was complete."""
    metrics = Metrics()
    admission = Admission(MemoryStateStore().rate_limiter, LIMITS, metrics)

    with suppress(CallerLeftError):
        async with admission.admit(Surface.CHAT) as account:
            account.start("demo", 1)
            account.add(GenerationEvent("a", (5,), FinishReason.STOP))
            raise CallerLeftError

    assert _outcomes(metrics.registry) == {"stop": 1}


async def test_place_of_a_key_is_held_until_its_connection_ends() -> None:
    """Another one is refused meanwhile."""
    limits = LIMITS.model_copy(update={"key_connections": 1})
    admission = _admission(limits=limits)

    async with admission.connection(CALLER):
        with pytest.raises(TooManyOpenError):
            async with admission.connection(CALLER):
                pass

    async with admission.connection(CALLER):
        pass


async def test_key_for_other_models_takes_nothing() -> None:
    """Neither tokens nor a slot."""
    store = MemoryStateStore()
    admission = _admission(store)
    caller = Caller("key", "address", KeyScopes(models=("other",)))

    with pytest.raises(OutOfScopeError):
        async with admission.admit(Surface.CHAT) as account:
            await admission.reserve(account, caller, "demo", 90)

    assert await _remaining(store) == 100
    await _end_with(admission, None, prompt=1)


async def test_request_refused_by_the_queue_gives_its_tokens_back() -> None:
    """They were reserved before it asked for a turn."""
    store = MemoryStateStore()
    admission = _admission(store)

    async with admission.admit(Surface.CHAT) as account:
        await admission.reserve(account, CALLER, "demo", 10)
        with pytest.raises(QueueFullError):
            await _end_with(admission, None, cost=80)

        assert await _remaining(store) == 90


async def test_models_have_slots_of_their_own() -> None:
    """One that is full does not keep another waiting."""
    admission = _admission()

    async with (
        admission.admit(Surface.CHAT) as one,
        admission.admit(Surface.CHAT) as two,
    ):
        await admission.reserve(one, CALLER, "demo", 1)
        await admission.reserve(two, CALLER, "other", 1)


class _AwayLimiter(MemoryRateLimiter):
    """A shared limiter that does not answer while `is_away`."""

    is_away = False

    async def settle(self, reservation: Reservation, used_tokens: int) -> tuple[LimitState, ...]:
        if self.is_away:
            raise StateUnavailableError("TimeoutError")
        return await super().settle(reservation, used_tokens)


async def test_what_is_owed_to_a_shared_limiter_is_settled_before_the_end() -> None:
    """A gateway that is stopped soon after Redis came back has a debt to tell of."""
    shared = _AwayLimiter(time.time)
    limiter = FallbackRateLimiter(shared, 0.25, backoff=Backoff(0, 0))
    admission = Admission(limiter, LIMITS, Metrics())

    async with admission.running():
        async with admission.admit(Surface.CHAT) as account:
            await admission.reserve(account, CALLER, "demo", 90)
            account.start("demo", 10)
            shared.is_away = True
        shared.is_away = False

    states = (await shared.reserve([RateLimit("key", "key", 1, 100)], 0)).states
    assert states[0].remaining == 90
