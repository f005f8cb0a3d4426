"""Workers that count together, as processes: the library chooses when it is imported."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

WORKER: Final = """
import os, signal, sys
from app.observability.exposition import exposition
from app.observability.metrics import Metrics, Outcome, Surface
metrics = Metrics()
metrics.requests.labels(Surface.CHAT, Outcome.STOP).inc(float(sys.argv[1]))
metrics.pulse.lag.observe(0.003)
metrics.pulse.draining.set(float(sys.argv[2]))
if sys.argv[3] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdout.buffer.write(exposition(metrics.registry))
"""


def run_worker(directory: Path, num_requests: int, draining: int, end: str) -> tuple[int, str]:
    """Run a worker that counts some requests; return how it ended and what it shows."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(num_requests), str(draining), end],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def samples(text: str) -> dict[str, float]:
    """Return all numbers that have something to do with the workers, by name and labels."""
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_numbers_of_all_workers_are_summed_and_none_is_lost_with_one(tmp_path: Path) -> None:
    """Of a worker that was killed, too: a counter that falls would be read as a restart."""
    killed, _ = run_worker(tmp_path, 3, 1, "die")
    code, text = run_worker(tmp_path, 4, 0, "show")

    shown = samples(text)
    assert (killed, code) == (-signal.SIGKILL, 0)
    assert shown["swarmgate_requests_total['openai_chat', 'stop']"] == 7
    assert shown["swarmgate_event_loop_lag_seconds_count[]"] == 2
    assert shown["swarmgate_event_loop_lag_seconds_bucket['0.005']"] == 2
    assert shown["swarmgate_event_loop_lag_seconds_bucket['0.002']"] == 0
