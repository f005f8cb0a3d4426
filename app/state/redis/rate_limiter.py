"""The rate limiter in Redis: one script, on the clock of Redis, the twin of `app.state.gcra`.

A bucket is the key `swarmgate:limit:<name>:<subject>` and holds the microsecond at which it is
full again. Lua counts in doubles; all numbers are integers below 2**53, so nothing is rounded.
"""

# ruff: noqa: D102 - the methods are described once, in their Protocols

from collections.abc import Callable, Sequence
from typing import Final

from app.state import gcra
from app.state.rate_limits import RateLimit, RateLimitState, Reservation
from app.state.redis.connection import RedisConnection, Script

# ARGV: "decide" or "settle", now in microseconds or "" for the time of Redis, then for each key
# amount and ceiling of its charge. Returns now, wait, and for each key when the bucket is full.
# Keys outlive their buckets by 10 s, so that a clock set back a little forgives nobody.
_CHARGE: Final = Script("""
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local before, after, wait = {}, {}, 0
for i, key in ipairs(KEYS) do
  local amount, ceiling = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  before[i] = math.max(tonumber(redis.call('GET', key) or now), now)
  after[i] = before[i] + amount
  if ARGV[1] == 'settle' then
    after[i] = math.min(math.max(after[i], now), now + ceiling)
  else
    wait = math.max(wait, after[i] - ceiling - now)
  end
end

if wait > 0 then return {now, wait, unpack(before)} end
for i, key in ipairs(KEYS) do
  local ttl_ms = math.ceil((after[i] - now) / 1000) + 10000
  redis.call('SET', key, string.format('%.0f', after[i]), 'PX', string.format('%.0f', ttl_ms))
end
return {now, 0, unpack(after)}
""")


class RedisRateLimiter:
    """`RateLimiter` in Redis.

    Args:
        clock: returns UTC seconds, for tests; without it, the time of Redis counts.
    """

    def __init__(
        self, connection: RedisConnection, clock: Callable[[], float] | None = None
    ) -> None:
        self._connection = connection
        self._clock = clock

    async def reserve(self, limits: Sequence[RateLimit], cost_tokens: int) -> Reservation:
        charges = gcra.charges_to_reserve(limits, cost_tokens)
        decision = await self._charge("decide", limits, charges)
        return gcra.reservation_of(limits, cost_tokens, decision)

    async def settle(
        self, reservation: Reservation, used_tokens: int
    ) -> tuple[RateLimitState, ...]:
        charges = gcra.charges_to_settle(reservation, used_tokens)
        if not reservation.is_allowed:
            return reservation.states
        decision = await self._charge("settle", reservation.limits, charges)
        return gcra.states_of(reservation.limits, decision)

    async def _charge(
        self, step: str, limits: Sequence[RateLimit], charges: Sequence[gcra.Charge]
    ) -> gcra.Decision:
        now = "" if self._clock is None else str(round(self._clock() * gcra.MICROSECONDS_PER_S))
        keys = [f"swarmgate:limit:{limit.name}:{limit.subject}" for limit in limits]
        numbers = [n for charge in charges for n in (charge.amount_us, charge.ceiling_us)]
        now_us, wait_us, *full_at_us = await self._connection.run(
            _CHARGE, keys, (step, now, *map(str, numbers))
        )
        return gcra.Decision(tuple(full_at_us), wait_us, now_us)
