"""The metrics as Prometheus reads them: of this process, or of all workers together.

Workers count in files that they share, because the parent says so in the environment before they
start. So a counter does not fall when a worker is killed, and it does not matter which of them is
asked.
"""

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector


def exposition(registry: CollectorRegistry) -> bytes:
    """Return the metrics in Prometheus' text format; reads files, if there are workers.

    Counters and histograms are summed, those of workers that have ended included; gauges are put
    together in the way that each was made for, of workers that live.
    """
    if values.ValueClass is values.MutexValue:
        return generate_latest(registry)
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return generate_latest(together)
