"""The generic cell rate algorithm: pure arithmetic in integer microseconds.

A bucket is one number: the time at which it will be full again (the "theoretical arrival time").
Taking tokens moves that time forward by what they take to refill; the bucket is empty when the
time lies a whole burst ahead of now, and full when it has passed.

    ── full ──────── now ─────── full_at ────────────── now + burst_us ──▶
                      │◀── taken ──▶│◀──── room ─────────▶│

Charges are rounded up to the microsecond. Over any window, what was granted less what was given
back in it is at most burst + window; in tokens, burst + rate * window, to the microsecond.

Source: ITU-T I.371, annex A (virtual scheduling), with a cost per request instead of cells.
"""

from typing import Final

MICROSECONDS_PER_S: Final = 1_000_000
_MICROSECONDS_PER_MINUTE: Final = 60_000_000


def refill_us(num: int, per_minute: int) -> int:
    """Return how long `num` tokens or requests take to refill, rounded up."""
    return -(-num * _MICROSECONDS_PER_MINUTE // per_minute)


def remaining(taken_us: int, per_minute: int, burst: int) -> int:
    """Return the largest cost that would pass when `taken_us` lie between now and `full_at`."""
    room_us = max(0, refill_us(burst, per_minute) - taken_us)
    return min(room_us * per_minute // _MICROSECONDS_PER_MINUTE, burst)


def whole_seconds(duration_us: int) -> int:
    """Return the seconds, rounded up."""
    return -(-duration_us // MICROSECONDS_PER_S)
