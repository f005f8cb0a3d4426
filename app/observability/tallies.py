"""Metrics that change with every token: noted in plain numbers, and told to Prometheus in one go.

prometheus_client takes a lock for each value, walks the buckets of a histogram, and of several
workers writes to the memory that they share; with two numbers per token that is a tenth of what a
token costs. What was noted shows from the next `tell` on. One thread notes and tells.
"""

from bisect import bisect_left

from prometheus_client import Counter, Histogram


class TalliedCounter(Counter):
    """A counter for what happens with every token."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._noted = 0.0

    def note(self, amount: float) -> None:
        """Add to it, from the next `tell` on."""
        self._noted += amount

    def tell(self) -> None:
        """Show what was noted."""
        noted, self._noted = self._noted, 0.0
        self.inc(noted)


class TalliedHistogram(Histogram):
    """A histogram of what every token has; reaches into its base, which has no call for many."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._noted = [0] * len(self._upper_bounds)
        self._noted_sum = 0.0

    def note(self, value: float) -> None:
        """Count a value, from the next `tell` on."""
        self._noted[bisect_left(self._upper_bounds, value)] += 1  # bounds include their value
        self._noted_sum += value

    def tell(self) -> None:
        """Show what was noted."""
        for index, num_noted in enumerate(self._noted):
            if num_noted:
                self._buckets[index].inc(num_noted)
                self._noted[index] = 0
        self._sum.inc(self._noted_sum)
        self._noted_sum = 0.0
