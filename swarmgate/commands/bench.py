"""`swarmgate bench`: how fast a gateway answers."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from time import perf_counter
from typing import Annotated, Any

import typer

from swarmgate.answer_times import AnswerTimes, figures_of
from swarmgate.commands.options import ApiKey, AsJson, Url
from swarmgate.errors import GatewayRequestError
from swarmgate.gateway_client import GatewayClient, choose_model


def bench(
    model: Annotated[
        str | None, typer.Option(help="Model id; the gateway's first if not given.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="The question.")] = "Tell me a story.",
    num_answers: Annotated[int, typer.Option("--answers", min=1, help="How often to ask.")] = 16,
    num_streams: Annotated[
        int, typer.Option("--streams", min=1, max=512, help="Questions that are open at once.")
    ] = 4,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of one answer, exactly so many.")
    ] = 64,
    url: Url = "http://127.0.0.1:8000",
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show how fast a gateway's model answers.

    It is asked the same question again and again.
    """
    gateway = GatewayClient(url, api_key)
    question = {
        "model": choose_model(gateway, model),
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_new_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started_at = perf_counter()
    with ThreadPoolExecutor(num_streams) as pool:
        asked = [pool.submit(partial(_ask, gateway, question)) for _ in range(num_answers)]
        results = [future.result() for future in asked]
    wall_s = perf_counter() - started_at
    answers = [result for result in results if isinstance(result, AnswerTimes)]
    refusals = [result for result in results if isinstance(result, GatewayRequestError)]
    if not answers:
        raise refusals[0]
    figures = {
        "model": question["model"],
        "streams": num_streams,
        **figures_of(answers, wall_s),
        "failed": len(refusals),
    }
    typer.echo(json.dumps(figures) if as_json else _table(figures))
    if refusals:
        typer.echo(f"swarmgate: {len(refusals)} failed, the first one: {refusals[0]}", err=True)


def _ask(gateway: GatewayClient, question: dict[str, Any]) -> AnswerTimes | GatewayRequestError:
    """Return how long an answer took, or why there was none."""
    started_at, first_at, num_tokens = perf_counter(), None, 0
    try:
        with closing(gateway.stream("/v1/chat/completions", question)) as events:
            for event in events:
                has_text = any(choice["delta"].get("content") for choice in event["choices"])
                if has_text and first_at is None:
                    first_at = perf_counter()
                num_tokens = (event.get("usage") or {}).get("completion_tokens", num_tokens)
    except GatewayRequestError as error:
        return error
    ended_at = perf_counter()
    first_s = (ended_at if first_at is None else first_at) - started_at
    return AnswerTimes(first_s, ended_at - started_at, num_tokens)


def _table(figures: dict[str, Any]) -> str:
    """Return the figures as lines for people."""
    first, gap = figures["first_token_ms"], figures["per_token_ms"]
    lines = [
        f"{figures['model']}: {figures['answers']} answers, {figures['streams']} at once, "
        f"{figures['tokens']} tokens in {figures['wall_s']} s",
        f"all together  {figures['tokens_per_s']} tokens/s",
        f"first token   {first['p50']} ms, 99 of 100 within {first['p99']} ms",
    ]
    if gap is not None:
        lines.append(f"next token    {gap['p50']} ms, 99 of 100 within {gap['p99']} ms")
    return "\n".join(lines)
