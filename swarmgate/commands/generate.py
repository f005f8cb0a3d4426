"""`swarmgate generate`: continue a text."""

import json
from contextlib import closing
from typing import Annotated

import typer

from swarmgate.commands.options import ApiKey, AsJson, Url
from swarmgate.gateway_client import GatewayClient, choose_model


def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    model: Annotated[
        str | None, typer.Option(help="Model id; the gateway's first if not given.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 64,
    temperature: Annotated[
        float, typer.Option(min=0, help="0 takes the likeliest token every time.")
    ] = 0.0,
    url: Url = "http://127.0.0.1:8000",
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Continue PROMPT with a gateway's model.

    The new text is printed as it comes.
    """
    gateway = GatewayClient(url, api_key)
    request = {
        "model": choose_model(gateway, model),
        "prompt": prompt,
        "max_tokens": max_new_tokens,
        "temperature": temperature,
        "stream": True,
    }
    texts: list[str] = []
    finish_reason = None
    with closing(gateway.stream("/v1/completions", request)) as events:
        for event in events:
            for choice in event["choices"]:
                texts.append(choice["text"])
                finish_reason = choice.get("finish_reason") or finish_reason
                if not as_json:
                    typer.echo(choice["text"], nl=False)
    facts = {"model": request["model"], "text": "".join(texts), "finish_reason": finish_reason}
    typer.echo(json.dumps(facts) if as_json else "")
