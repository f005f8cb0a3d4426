"""Quantiles of a histogram that a running gateway exposes at `/metrics`."""

from itertools import pairwise
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families


def read_quantiles(url: str, histogram: str, quantiles: tuple[float, ...]) -> dict[str, float]:
    """Return `{"p50": …}`, linear inside a bucket, and the mean, in the histogram's unit.

    Raises:
        LookupError: the histogram is not there, or is empty.
    """
    with urlopen(f"{url}/metrics", timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
        samples = next(f.samples for f in families if f.name == histogram)
    buckets = [(float(s.labels["le"]), s.value) for s in samples if s.name == f"{histogram}_bucket"]
    count = buckets[-1][1]
    if not count:
        raise LookupError(f"{histogram} is empty")
    total = next(s.value for s in samples if s.name == f"{histogram}_sum")
    named = {f"p{round(100 * q)}": _quantile(buckets, q * count) for q in quantiles}
    return {"mean": total / count, **named}


def _quantile(buckets: list[tuple[float, float]], rank: float) -> float:
    """Return the value below which `rank` observations lie; the last bucket has no upper end."""
    for (low, below), (high, upto) in pairwise([(0.0, 0.0), *buckets]):
        if upto >= rank:
            return (
                low
                if high == float("inf")
                else low + (high - low) * (rank - below) / (upto - below)
            )
    return buckets[-1][0]
