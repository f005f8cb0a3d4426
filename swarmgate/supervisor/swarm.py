"""Runs a private swarm: starts its processes, tells how they get on, ends them all together."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from swarm_protocol.errors import SwarmError
from swarm_protocol.identifiers import BlockRange
from swarmgate.errors import GatewayRequestError, NotReadyError
from swarmgate.gateway_client import GatewayClient
from swarmgate.supervisor.child import Child, end_all
from swarmgate.supervisor.identity import write_identity
from swarmgate.supervisor.plan import LOOPBACK, SwarmPlan

_FIRST_TOKEN_TIMEOUT_S: Final = 120.0  # from the last ready line on; loading is not counted
_HEALTH_PERIOD_S: Final = 0.1
_GRACE_S: Final = 15.0  # a little over the servers' own drain time


async def run_swarm(plan: SwarmPlan, console: Console, *, is_verbose: bool) -> None:
    """Bring the swarm up and keep it until cancelled; then, or on failure, end every process.

    Raises:
        ChildDiedError: a process ended by itself.
        NotReadyError: the first token did not come in time.
    """
    started_at = time.monotonic()
    run_directory = Path(tempfile.mkdtemp(prefix="swarmgate-up-"))
    children: list[Child] = []
    failure: BaseException | None = None
    try:
        await _start(plan, run_directory, children, is_verbose=is_verbose)
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(child.watch())
            group.create_task(_announce(plan, children, console, started_at))
    except* SwarmError as errors:
        failure = errors.exceptions[0]
    finally:
        await _end(children, console)
        if failure is None or is_verbose:
            shutil.rmtree(run_directory)
    if failure is not None:
        if not is_verbose:
            console.print(f"the logs of every process are in {run_directory}")
        raise failure


async def _start(
    plan: SwarmPlan, directory: Path, children: list[Child], *, is_verbose: bool
) -> None:
    """Start all processes at once; servers try again until the bootstrap answers."""
    identity = directory / "bootstrap.key"
    bootstrap_id = write_identity(identity)
    commands = {"the gateway": plan.gateway_command(identity)}
    for i, span in enumerate(plan.spans, start=1):
        commands[f"server {i} of {len(plan.spans)}"] = plan.server_command(span, bootstrap_id)
    for name, command in commands.items():
        log_path = None if is_verbose else directory / f"{name.replace(' ', '-')}.log"
        children.append(await Child.start(name, command, log_path))


async def _announce(
    plan: SwarmPlan, children: Sequence[Child], console: Console, started_at: float
) -> None:
    """Tell what has become ready, until the first token has come back."""
    with console.status("starting the gateway and the servers"):
        console.print(f"starting the gateway and {_count(plan.spans)} for {plan.model}")
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(_announce_child(child, console))
        url = f"http://{LOOPBACK}:{plan.port}"
        model_id = await _wait_for_token(GatewayClient(url))
    console.print(f"first token after {time.monotonic() - started_at:.1f} s")
    console.print(_welcome(url, model_id))


async def _announce_child(child: Child, console: Console) -> None:
    facts = await child.ready()
    what = f"holds blocks {facts['blocks']}" if "blocks" in facts else f"listens at {facts['url']}"
    console.print(f"{child.name} {what}")


async def _wait_for_token(gateway: GatewayClient) -> str:
    """Return the model's id when a canary token of it has come back from the whole swarm."""
    deadline = time.monotonic() + _FIRST_TOKEN_TIMEOUT_S
    while True:
        try:
            health = await asyncio.to_thread(gateway.get, "/health/ready")
            return str(next(iter(health["models"])))
        except GatewayRequestError as error:
            if time.monotonic() > deadline:
                raise NotReadyError(_FIRST_TOKEN_TIMEOUT_S, str(error)) from error
            await asyncio.sleep(_HEALTH_PERIOD_S)


async def _end(children: Sequence[Child], console: Console) -> None:
    """Let every process drain; see `end_all`."""
    if not children:
        return
    with console.status("stopping"):
        await end_all(children, grace_s=_GRACE_S)
    console.print("everything has stopped")


def _count(spans: Sequence[BlockRange]) -> str:
    return "1 server" if len(spans) == 1 else f"{len(spans)} servers"


def _welcome(url: str, model_id: str) -> str:
    return f"""
  chat page   {url}/
  API         {url}/v1  (any OpenAI client)
  the swarm   {url}/api/v1/swarm

  curl {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{model_id}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Ctrl-C stops everything."""
