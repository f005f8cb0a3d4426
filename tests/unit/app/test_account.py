"""What an account tells the metrics."""

from app.account import Account
from app.inference.requests import FinishReason, GenerationEvent, TokenTimings
from app.observability.metrics import Metrics


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
    timings = TokenTimings(queue_ms=1.0, hops_ms=(4.0, 3.0), head_ms=1.0)

    clock.now = 0.5
    account.add(GenerationEvent("a", (5,), None, timings))
    clock.now = 0.51
    account.add(GenerationEvent("b", (6,), FinishReason.STOP, timings))
    account.close()

    assert _value(metrics, "vllm:time_to_first_token_seconds_sum") == 0.5
    assert round(_value(metrics, "vllm:time_per_output_token_seconds_sum") or 0, 6) == 0.01
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

    assert round(_value(metrics, "vllm:time_per_output_token_seconds_sum") or 0, 6) == 0.1
    assert _value(metrics, "swarmgate_overhead_per_token_seconds_count") == 0
