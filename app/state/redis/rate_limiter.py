"""The rate limiter in Redis: one script, on the clock of Redis, the twin of `app.state.charges`.

    swarmgate:limit:{name}:{subject}             of a bucket, the microsecond at which it is full
    swarmgate:budget:{name}:{subject}:{window}   tokens used in that window
    swarmgate:places:{name}:{subject}            who holds places, and until which microsecond
    swarmgate:settled:{reservation}              a reservation that was settled; for 10 minutes

Lua counts in doubles; all numbers are integers below 2**53, so nothing is rounded.
"""

# ruff: noqa: D102 - the methods are described once, in their Protocols

from collections.abc import Callable, Sequence
from typing import Final

import orjson

from app.state import charges, gcra
from app.state.charges import Charge, Decision
from app.state.rate_limits import Budget, Limit, LimitState, PlaceLimit, Reservation
from app.state.redis.connection import RedisConnection, Script

# KEYS: one per limit; then, to settle what must not count twice, that of the reservation. ARGV:
# "decide" or "settle", now in microseconds or "" for the time of Redis, the reservation's id, and
# JSON of kind, amount, ceiling and term of each charge: one argument is cheaper to send than
# twenty. Returns now, then the integer and the wait of each limit. Keys outlive what they tell:
# buckets by 10 s and budgets by `BUDGET_KEPT_US`, so that a clock set back a little forgives
# nobody. Whether a budget is still kept is for the clock that decides the rest; that by which Redis
# drops keys may be another.
_CHARGE: Final = Script(
    f"local budget_kept = {charges.BUDGET_KEPT_US}"
    + """
local is_settling, now, id = ARGV[1] == 'settle', tonumber(ARGV[2]), ARGV[3]
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local charges = cjson.decode(ARGV[4])
local num = #charges
local is_again = #KEYS > num and not redis.call('SET', KEYS[num + 1], 1, 'NX', 'EX', 600)

local before, after, waits, is_refused = {}, {}, {}, false
for i = 1, num do
  local kind, amount, ceiling, term = unpack(charges[i])
  local least, wait = 0, 0
  if is_again then amount = 0 end
  if kind == 'places' then
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', now))
    before[i] = redis.call('ZCARD', KEYS[i])
  elseif kind == 'bucket' then
    least = now
    before[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or now), now)
  else
    before[i] = now < term + budget_kept and tonumber(redis.call('GET', KEYS[i]) or 0) or 0
  end
  after[i] = before[i] + amount
  if is_settling then
    after[i] = math.min(math.max(after[i], least), least + ceiling)
  elseif after[i] > least + ceiling then
    if kind == 'bucket' then wait = after[i] - ceiling - now
    elseif kind == 'budget' then wait = math.max(1, term - now)
    else wait = 1000000 end
  end
  waits[i] = wait
  is_refused = is_refused or wait > 0
end

local answer = {now}
for i = 1, num do
  local kind, _, _, term = unpack(charges[i])
  if kind == 'places' then
    if is_settling then
      redis.call('ZREM', KEYS[i], id)
      after[i] = redis.call('ZCARD', KEYS[i])
    elseif not is_refused then
      redis.call('ZADD', KEYS[i], string.format('%.0f', now + term), id)
      redis.call('PEXPIRE', KEYS[i], string.format('%.0f', term / 1000))
    end
  elseif not is_refused then
    local kept_us = (kind == 'bucket' and after[i] + 10000000 or term + budget_kept) - now
    if kept_us > 0 then
      local value, ttl_ms = string.format('%.0f', after[i]), math.ceil(kept_us / 1000)
      redis.call('SET', KEYS[i], value, 'PX', string.format('%.0f', ttl_ms))
    end
  end
  answer[2 * i] = is_refused and before[i] or after[i]
  answer[2 * i + 1] = waits[i]
end
return answer
"""
)

# KEYS: places. ARGV: now or "", lease in microseconds, and the id of the holder of each. What
# Redis has forgotten is taken again: it is in use.
_RENEW: Final = Script("""
local now, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, string.format('%.0f', now + lease), ARGV[2 + i])
  redis.call('PEXPIRE', key, string.format('%.0f', lease / 1000))
end
""")
_RENEWED_AT_ONCE: Final = 1000


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

    async def reserve(self, limits: Sequence[Limit], cost_tokens: int) -> Reservation:
        wanted = charges.charges_to_reserve(limits, cost_tokens)
        draft = Reservation(True, cost_tokens, (), 0, tuple(limits))
        decision = await self._charge("decide", draft, wanted)
        return charges.reservation_of(limits, cost_tokens, decision, draft.id)

    async def settle(self, reservation: Reservation, used_tokens: int) -> tuple[LimitState, ...]:
        wanted = charges.charges_to_settle(reservation, used_tokens)
        if not reservation.is_allowed:
            return reservation.states
        decision = await self._charge("settle", reservation, wanted)
        return charges.states_of(reservation.limits, decision)

    async def renew(self, reservations: Sequence[Reservation]) -> None:
        places = [
            (_key(limit), reservation.id)
            for reservation in reservations
            for limit in reservation.limits
            if isinstance(limit, PlaceLimit)
        ]
        for start in range(0, len(places), _RENEWED_AT_ONCE):
            part = places[start : start + _RENEWED_AT_ONCE]
            args = (self._now(), str(charges.PLACE_LEASE_US), *(holder for _, holder in part))
            await self._connection.run(_RENEW, [key for key, _ in part], args)

    async def _charge(
        self, step: str, reservation: Reservation, wanted: Sequence[Charge]
    ) -> Decision:
        keys = [_key(limit) for limit in reservation.limits]
        if step == "settle" and any(charge.amount for charge in wanted):
            keys.append(f"swarmgate:settled:{reservation.id}")
        charges_json = orjson.dumps([(c.kind, c.amount, c.ceiling, c.term_us) for c in wanted])
        args = (step, self._now(), reservation.id, charges_json)
        now_us, *numbers = await self._connection.run(_CHARGE, keys, args)
        return Decision(tuple(numbers[::2]), tuple(numbers[1::2]), now_us)

    def _now(self) -> str:
        return "" if self._clock is None else str(round(self._clock() * gcra.MICROSECONDS_PER_S))


def _key(limit: Limit) -> str:
    match limit:
        case Budget():
            return f"swarmgate:budget:{limit.name}:{limit.subject}:{limit.window}"
        case PlaceLimit():
            return f"swarmgate:places:{limit.name}:{limit.subject}"
        case _:
            return f"swarmgate:limit:{limit.name}:{limit.subject}"
