"""What an account tells the metrics."""

from app.account import Account
from app.inference.requests import FinishReason, GenerationEvent, TokenTimings
from app.observability.metrics import Metrics, Outcome
from swarm_client.session.timings import HopTiming
from swarm_protocol.identifiers import BlockRange, PeerId

HOPS = (
    HopTiming(PeerId("QmFirst"), BlockRange(0, 4), 4.0, queue_ms=0.5, compute_ms=2.5),
    HopTiming(PeerId("QmSecond"), BlockRange(4, 8), 3.0),
)


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"model_name": "demo"})


def test_times_between_tokens_and_the_gateways_part_of_them() -> None:
    """Hops, queue and head are taken off; the rest is ours."""
    clock, metrics = _Clock(), Metrics()
    account = Account(metrics, clock)
    account.start("demo", 7)
    timings = TokenTimings(queue_ms=1.0, hops=HOPS, head_ms=1.0)

    clock.now = 0.5
    account.add(GenerationEvent("a", (5,), None, timings))
    clock.now = 0.51
    account.add(GenerationEvent("b", (6,), FinishReason.STOP, timings))
    account.close(Outcome.STOP)

    assert _value(metrics, "vllm:time_to_first_token_seconds_sum") == 0.5
    assert round(_value(metrics, "vllm:inter_token_latency_seconds_sum") or 0, 6) == 0.01
    assert round(_value(metrics, "swarmgate_overhead_per_token_seconds_sum") or 0, 6) == 0.001
    assert _value(metrics, "vllm:prompt_tokens_total") == 7
    assert _value(metrics, "vllm:generation_tokens_total") == 2
    assert _value(metrics, "vllm:num_requests_running") == 0


def test_several_tokens_of_one_event_share_its_time() -> None:
    """No overhead is derived from it: the timings are of one step only."""
    clock, metrics = _Clock(), Metrics()
    account = Account(metrics, clock)
    account.start("demo", 1)
    account.add(GenerationEvent("a", (5,)))

    clock.now = 0.3
    account.add(GenerationEvent("bcd", (6, 7, 8), FinishReason.LENGTH, TokenTimings(0, (), 0)))
    metrics.generations.tell_tokens()

    assert round(_value(metrics, "vllm:inter_token_latency_seconds_sum") or 0, 6) == 0.1
    assert _value(metrics, "swarmgate_overhead_per_token_seconds_count") == 0


def test_time_of_a_generation_is_told_by_its_parts() -> None:
    """Prefill ends with the first token; hops are summed over all steps."""
    clock, metrics = _Clock(), Metrics()
    account = Account(metrics, clock)
    clock.now = 0.1
    account.start("demo", 7)
    timings = TokenTimings(queue_ms=1.0, hops=HOPS, head_ms=2.0)
    for now in (0.4, 0.45, 0.5):
        clock.now = now
        account.add(GenerationEvent("a", (5,), None, timings))

    clock.now = 0.6
    account.close(Outcome.CANCELLED)

    assert account.times().parts() == {
        "queue_ms": 0.0,
        "prefill_ms": 300.0,
        "decode_ms": 100.0,
        "hops_ms": 21.0,
        "head_ms": 9.0,
        "total_ms": 600.0,
    }
    assert "prefill;dur=300.0, decode;dur=100.0" in account.times().server_timing()


def test_ended_generation_is_counted_with_its_hops() -> None:
    """What a server does not claim for itself is the network's."""
    clock, metrics = _Clock(), Metrics()
    account = Account(metrics, clock)
    account.start("demo", 7)
    account.add(GenerationEvent("a", (5,), None, TokenTimings(1.0, HOPS, 2.0)))
    account.close(Outcome.CANCELLED)

    parts = {
        part: metrics.registry.get_sample_value(
            "swarmgate_hop_seconds_total", {"model_name": "demo", "part": part}
        )
        for part in ("queue", "compute", "network")
    }
    assert parts == {"queue": 0.0005, "compute": 0.0025, "network": 0.004}
    assert _value(metrics, "swarmgate_hop_visits_total") == 2
    assert (
        metrics.registry.get_sample_value(
            "vllm:request_success_total", {"model_name": "demo", "finished_reason": "abort"}
        )
        == 1
    )
