"""What is noted shows as if it had been observed, once it is told."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from app.observability.tallies import TalliedCounter, TalliedHistogram

BOUNDS = (0.1, 0.5, 1)
BUCKETS = ("0.1", "0.5", "1.0", "+Inf")


def counts(registry: CollectorRegistry) -> list[float | None]:
    """Return the buckets of the histogram."""
    labels = [{"model": "demo", "le": bound} for bound in BUCKETS]
    return [registry.get_sample_value("seconds_bucket", label) for label in labels]


@given(st.lists(st.sampled_from((0.0, 0.1, 0.2, 0.5, 0.7, 1.0, 3.0)), max_size=20))
def test_noted_values_fall_into_the_buckets_of_observed_ones(values: Sequence[float]) -> None:
    """A value on a bound belongs to the bucket that ends there."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tallied = TalliedHistogram("seconds", "-", ["model"], buckets=BOUNDS, registry=ours)
    plain = Histogram("seconds", "-", ["model"], buckets=BOUNDS, registry=theirs)

    tallied.labels("demo"), plain.labels("demo")
    for value in values:
        tallied.labels("demo").note(value)
        plain.labels("demo").observe(value)
    tallied.labels("demo").tell()

    assert counts(ours) == counts(theirs)
    name, labels = "seconds_sum", {"model": "demo"}
    assert round(ours.get_sample_value(name, labels) or 0, 9) == round(sum(values), 9)


def test_what_was_told_is_not_told_again() -> None:
    """A tally begins anew when it has been told."""
    registry = CollectorRegistry()
    tokens = TalliedCounter("tokens", "-", registry=registry)
    tokens.note(2)

    before = registry.get_sample_value("tokens_total")
    tokens.tell()
    tokens.tell()

    assert (before, registry.get_sample_value("tokens_total")) == (0, 2)
