"""`swarmgate chat`: talk to a gateway's model in the terminal."""

from contextlib import closing
from typing import Annotated

import typer

from swarmgate.commands.options import ApiKey, Url
from swarmgate.errors import GatewayRequestError
from swarmgate.gateway_client import GatewayClient, choose_model


def chat(
    model: Annotated[
        str | None, typer.Option(help="Model id; the gateway's first if not given.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message to begin with.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one answer at most.")] = 256,
    url: Url = "http://127.0.0.1:8000",
    api_key: ApiKey = None,
) -> None:
    """Chat with a gateway's model, one line at a time.

    Ctrl-C stops an answer, Ctrl-D leaves.
    """
    gateway = GatewayClient(url, api_key)
    model_id = choose_model(gateway, model)
    typer.echo(f"talking to {model_id}; Ctrl-D leaves", err=True)
    messages = [{"role": "system", "content": system}] if system else []
    while (said := _read_line()) is not None:
        messages.append({"role": "user", "content": said})
        request = {
            "model": model_id,
            "messages": messages,
            "max_tokens": max_new_tokens,
            "stream": True,
        }
        try:
            answer = _print_answer(gateway, request)
        except GatewayRequestError as error:
            typer.echo(f"swarmgate: {error}", err=True)
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": answer})


def _read_line() -> str | None:
    """Return the next line that says something, or None at the end of input."""
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo("", err=True)
            return None
        if line:
            return line


def _print_answer(gateway: GatewayClient, request: dict[str, object]) -> str:
    texts: list[str] = []
    try:
        with closing(gateway.stream("/v1/chat/completions", request)) as events:
            for event in events:
                for choice in event["choices"]:
                    text = choice["delta"].get("content") or ""
                    texts.append(text)
                    typer.echo(text, nl=False)
    except KeyboardInterrupt:
        typer.echo(" [stopped]", nl=False, err=True)
    typer.echo("")
    return "".join(texts)
