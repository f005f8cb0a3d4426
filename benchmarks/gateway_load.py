"""What does the gateway itself cost under load? One core, a stub engine, callers on another core.

Latency to the first byte at a set rate of requests, events a second and core, two thousand streams
at once with their delay and memory, and how soon a caller who leaves frees what was his. Beside it,
on the same core by the same callers, LiteLLM's proxy before a stub of a provider, if
`scripts/install-neighbour-gateway` has installed it.
"""

import argparse
import asyncio
from time import monotonic
from typing import Final

import uvloop

from benchmarks.gateway_callers import Target, ask_at_rate, connect, in_ms
from benchmarks.gateway_cancels import break_off, close_socket, delete_stream, measure_cancels
from benchmarks.gateway_events import measure
from benchmarks.gateway_neighbour import NeighbourError, measure_neighbour
from benchmarks.gateway_stub import CALLERS_CORE, GatewayProcess, gateway_process, pin
from benchmarks.report import print_report

_STEP_MS: Final = 100
_OPENED_PER_S: Final = 500
_WARM_UP_S: Final = 2.0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--streams", type=int, default=2000, help="open at once, 10 tokens/s each")
    parser.add_argument("--skip-neighbour", action="store_true", help="do not run LiteLLM's proxy")
    arguments = parser.parse_args()
    pin(CALLERS_CORE)
    results: dict[str, object] = {}
    with gateway_process() as gateway:
        results["first_byte"] = uvloop.run(
            first_byte(Target(gateway.port), arguments.rate, arguments.seconds)
        )
        results["cancel"] = {
            "close_socket": uvloop.run(measure_cancels(gateway, close_socket)),
            "delete_stream": uvloop.run(measure_cancels(gateway, delete_stream)),
        }
        results["events"] = uvloop.run(measure(gateway.port, gateway.process, 16, 2000))
    with gateway_process(resume_s=0) as gateway:
        results["cancel_unkept"] = uvloop.run(measure_cancels(gateway, break_off))
    with gateway_process() as gateway:
        results["open_streams"] = uvloop.run(
            open_streams(gateway, arguments.streams, arguments.seconds)
        )
    if not arguments.skip_neighbour:
        try:
            results["litellm"] = measure_neighbour(arguments.seconds)
        except NeighbourError as error:  # the rest of the report is worth having
            results["litellm"] = str(error)
    print_report("gateway_load", results)


async def first_byte(target: Target, rate_per_s: float, duration_s: float) -> dict[str, object]:
    """Return how long the first byte and the first token of an answer take, after a warm-up.

    The engine has the first token at once, so all of it is the gateway's time, and the callers'.
    """
    await ask_at_rate(target, rate_per_s=rate_per_s, duration_s=_WARM_UP_S, num_tokens=8)
    answers, num_failed = await ask_at_rate(
        target, rate_per_s=rate_per_s, duration_s=duration_s, num_tokens=8
    )
    return {
        "requests_per_s": rate_per_s,
        "num_answered": len(answers),
        "num_failed": num_failed,
        "first_byte": in_ms([answer.first_byte_at - answer.sent_at for answer in answers]),
        "first_token": in_ms([answer.first_token_at - answer.sent_at for answer in answers]),
    }


async def open_streams(
    gateway: GatewayProcess, num_streams: int, duration_s: float
) -> dict[str, object]:
    """Return the delay of events, and the memory of a stream, while many are open."""
    target, delays_s = Target(gateway.port), list[float]()
    await ask_at_rate(target, rate_per_s=100, duration_s=_WARM_UP_S, num_tokens=8)
    resident_before = gateway.resident_bytes()
    request = target.request(step_ms=_STEP_MS, num_tokens=100_000)
    async with asyncio.TaskGroup() as group:
        connections, tasks = [], []
        for _ in range(num_streams):
            connections.append(await connect(target, delays_s))
            tasks.append(group.create_task(connections[-1].ask(request)))
            await asyncio.sleep(1 / _OPENED_PER_S)
        await asyncio.sleep(_WARM_UP_S)
        delays_s.clear()
        cpu_before, begun_at = gateway.process.cpu_times(), monotonic()
        resident_at_start = gateway.resident_bytes()
        await asyncio.sleep(duration_s)
        cpu_after, took_s = gateway.process.cpu_times(), monotonic() - begun_at
        resident_after, num_events = gateway.resident_bytes(), len(delays_s)
        for connection in connections:
            connection.close()
    answers = [task.result() for task in tasks]
    spent_s = cpu_after.user + cpu_after.system - cpu_before.user - cpu_before.system
    return {
        "streams": num_streams,
        "num_refused": sum(answer.is_refused for answer in answers),
        "num_unanswered": sum(not answer.first_byte_at for answer in answers),
        "events_per_s": round(num_events / took_s),
        "delay": in_ms(delays_s[:num_events]),
        "core_use": round(spent_s / took_s, 2),
        "kib_per_stream": round((resident_at_start - resident_before) / num_streams / 1024, 1),
        "bytes_per_event_kept": round((resident_after - resident_at_start) / max(1, num_events), 1),
    }


if __name__ == "__main__":
    main()
