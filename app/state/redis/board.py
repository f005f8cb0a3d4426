"""The board of all workers on one Redis, under one hash tag.

    swarmgate:{workers}:leader     "term worker"; there while the lease of the leader lasts
    swarmgate:{workers}:findings   a hash: name to "microseconds:value"
    swarmgate:{workers}:offer      a hash: name to change

A term's number is Redis' time in microseconds when it began: it grows even when Redis has lost all
it knew, as long as its clock does not go back.
"""

# ruff: noqa: D102 - the methods are described once, in their Protocol

from collections.abc import Mapping, Sequence
from typing import Final

from app.state.board import FINDINGS_S, LEASE_S, OFFER_S, BoardView, Finding
from app.state.redis.connection import RedisConnection, Script

_KEYS: Final = tuple(f"swarmgate:{{workers}}:{name}" for name in ("leader", "findings", "offer"))
_LEASE_MS, _FINDINGS_MS, _OFFER_MS = (
    str(round(seconds * 1000)) for seconds in (LEASE_S, FINDINGS_S, OFFER_S)
)

# ARGV: worker, lease_ms, offer_ms. Returns our term or 0, the time, findings, offer.
_LOOK: Final = Script("""
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local term, leader = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (.*)$')
if not leader then term, leader = now, ARGV[1] end
if leader == ARGV[1] then
  redis.call('SET', KEYS[1], term .. ' ' .. leader, 'PX', ARGV[2])
else
  term = '0'
end
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return {term, now, redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3])}
""")
# ARGV: term, findings_ms, then names and values. Returns whether the term still lasts.
_PUBLISH: Final = Script("""
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
if string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) ') ~= ARGV[1] then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], now .. ':' .. ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
""")
# ARGV: name, change, offer_ms.
_CHANGE: Final = Script("""
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 1
""")
# ARGV: worker.
_RESIGN: Final = Script("""
local leader = string.match(redis.call('GET', KEYS[1]) or '', '^%d+ (.*)$')
if leader == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
""")


class RedisWorkerBoard:
    """`WorkerBoard` in Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def look(self, worker_id: str) -> BoardView:
        args = (worker_id, _LEASE_MS, _OFFER_MS)
        term, now, findings, offer = await self._connection.run(_LOOK, _KEYS, args)
        found = {name: _finding(stored, int(now)) for name, stored in _pairs(findings).items()}
        fresh = {name: finding for name, finding in found.items() if finding.age_s < FINDINGS_S}
        return BoardView(int(term) or None, fresh, _pairs(offer))

    async def publish(self, term: int, findings: Mapping[str, bytes]) -> bool:
        fields = [part for name, value in findings.items() for part in (name, value)]
        args: list[str | bytes] = [str(term), _FINDINGS_MS, *fields]
        return bool(await self._connection.run(_PUBLISH, _KEYS, args))

    async def change_offer(self, name: str, change: bytes) -> None:
        await self._connection.run(_CHANGE, _KEYS, (name, change, _OFFER_MS))

    async def resign(self, worker_id: str) -> None:
        await self._connection.run(_RESIGN, _KEYS, (worker_id,))


def _pairs(flat: Sequence[bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _finding(stored: bytes, now_us: int) -> Finding:
    at_us, _, value = stored.partition(b":")
    return Finding(value, max(0, now_us - int(at_us)) / 1_000_000)
