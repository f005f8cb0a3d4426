"""Journals in Redis: a hash of facts, a list of entries and a lease, under one hash tag.

    swarmgate:journal:{id}           owner, and the number of the latest lease
    swarmgate:journal:{id}:entries   entries, in their order
    swarmgate:journal:{id}:lease     there while the latest lease has not run out
    swarmgate:journal:{id}:deleted   there for a minute after it was deleted, for its writer to see

The first two expire in the same millisecond; a pair of which eviction took one counts as gone.
"""

# ruff: noqa: D102 - the methods are described once, in their Protocols

import math
from collections.abc import Sequence
from typing import Final

from app.state.errors import JournalExistsError, JournalLeasedError, JournalNotFoundError
from app.state.journals import (
    Extension,
    ExtensionOutcome,
    Holding,
    JournalPart,
    Lease,
    Terms,
)
from app.state.redis.connection import RedisConnection, Script

_PREFIX: Final = "swarmgate:journal:"
_DELETED_MS: Final = "60000"  # many times the period at which writers extend their journals

# KEYS: facts, entries, lease. ARGV: owner, lease_ms, keep_ms, number of the lease, entries …
_CREATE: Final = Script("""
if redis.call('EXISTS', KEYS[1], KEYS[2]) == 2 then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'lease', ARGV[4])
redis.call('DEL', KEYS[2])
for i = 5, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
""")
# KEYS: those four of each journal. ARGV: lease_ms, keep_ms, and for each journal the number of
# the lease, the number of the first entry, whether it is given back, how many entries, the entries.
# Returns how many entries each has, -1 for a lease that is lost, -2 for a journal that is gone,
# -3 for one that was deleted.
_EXTEND: Final = Script("""
local outcomes, at = {}, 3
for i = 1, #KEYS, 4 do
  local facts, entries, lease = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local start, num = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 3])
  local stored = redis.call('LLEN', entries)
  local number = redis.call('HGET', facts, 'lease')
  if stored == 0 or not number then
    outcomes[#outcomes + 1] = redis.call('EXISTS', KEYS[i + 3]) == 1 and -3 or -2
  elseif number ~= ARGV[at] then
    outcomes[#outcomes + 1] = -1
  else
    if start <= stored then
      for j = stored - start + 1, num do
        stored = redis.call('RPUSH', entries, ARGV[at + 3 + j])
      end
    end
    if ARGV[at + 2] == '1' then
      redis.call('DEL', lease)
    else
      redis.call('SET', lease, ARGV[at], 'PX', ARGV[1])
    end
    redis.call('PEXPIRE', facts, ARGV[2])
    redis.call('PEXPIRE', entries, ARGV[2])
    outcomes[#outcomes + 1] = stored
  end
  at = at + 4 + num
end
return outcomes
""")
# KEYS: facts, entries, lease. ARGV: owner, first number. Returns is_leased, entries.
_READ: Final = Script("""
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return false end
if redis.call('EXISTS', KEYS[2]) == 0 then return false end
return {redis.call('EXISTS', KEYS[3]), redis.call('LRANGE', KEYS[2], ARGV[2], -1)}
""")
# KEYS: facts, entries, lease. ARGV: owner, lease_ms, keep_ms.
# Returns the number of the new lease, 0 if somebody has one, nothing if there is no such journal.
_TAKE: Final = Script("""
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return false end
if redis.call('EXISTS', KEYS[2]) == 0 then return false end
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local number = redis.call('HINCRBY', KEYS[1], 'lease', 1)
redis.call('SET', KEYS[3], number, 'PX', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return number
""")
# KEYS: facts, entries, lease, deleted. ARGV: owner, how long its writer can learn of it.
_DELETE: Final = Script("""
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  redis.call('SET', KEYS[4], 1, 'PX', ARGV[2])
end
return 1
""")


class RedisJournalStore:
    """`JournalStore` in Redis."""

    is_shared = True

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def create(
        self,
        journal_id: str,
        *,
        owner: str,
        entries: Sequence[bytes],
        terms: Terms,
        number: int = 1,
    ) -> Lease:
        args: list[str | bytes] = [owner, *_milliseconds(terms), str(number), *entries]
        if not await self._connection.run(_CREATE, _keys(journal_id), args):
            raise JournalExistsError(journal_id)
        return Lease(journal_id, number)

    async def extend(
        self, extensions: Sequence[Extension], *, terms: Terms
    ) -> Sequence[ExtensionOutcome]:
        keys = [key for extension in extensions for key in _keys(extension.lease.journal_id)]
        args: list[str | bytes] = [*_milliseconds(terms)]
        for extension in extensions:
            args += (str(extension.lease.number), str(extension.start))
            args += ("1" if extension.is_last else "0", str(len(extension.entries)))
            args += extension.entries
        numbers = await self._connection.run(_EXTEND, keys, args)
        return [_outcome_of(number) for number in numbers]

    async def read(self, journal_id: str, *, owner: str, start: int) -> JournalPart:
        answer = await self._connection.run(_READ, _keys(journal_id), (owner, str(start)))
        if answer is None:
            raise JournalNotFoundError(journal_id)
        is_leased, entries = answer
        return JournalPart(tuple(entries), bool(is_leased))

    async def take(self, journal_id: str, *, owner: str, terms: Terms) -> Lease:
        args = (owner, *_milliseconds(terms))
        number = await self._connection.run(_TAKE, _keys(journal_id), args)
        if number is None:
            raise JournalNotFoundError(journal_id)
        if number == 0:
            raise JournalLeasedError(journal_id)
        return Lease(journal_id, number)

    async def delete(self, journal_id: str, *, owner: str) -> None:
        await self._connection.run(_DELETE, _keys(journal_id), (owner, _DELETED_MS))

    async def count(self) -> int:
        return await self._connection.count_keys(_PREFIX + "{*}")


def _keys(journal_id: str) -> tuple[str, str, str, str]:
    facts = f"{_PREFIX}{{{journal_id}}}"
    return facts, f"{facts}:entries", f"{facts}:lease", f"{facts}:deleted"


def _outcome_of(number: int) -> ExtensionOutcome:
    if number >= 0:
        return ExtensionOutcome(Holding.HELD, number)
    return ExtensionOutcome({-1: Holding.LOST, -2: Holding.GONE, -3: Holding.DELETED}[number])


def _milliseconds(terms: Terms) -> tuple[str, str]:
    return str(math.ceil(terms.lease_s * 1000)), str(math.ceil(terms.keep_s * 1000))
