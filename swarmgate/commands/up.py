"""`swarmgate up`: a private swarm, gateway and chat page on this machine."""

from typing import Annotated

import typer


def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the gateway.")] = 8000,
    model: Annotated[
        str, typer.Option(help="Directory of a model, or a hub repository.")
    ] = "models/demo",
    servers: Annotated[
        int, typer.Option(min=1, max=64, help="Block servers; they share the model's blocks.")
    ] = 2,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show the logs of every process.")
    ] = False,
) -> None:
    """Run a private swarm, its gateway and the chat page.

    Ctrl-C ends them all.
    """
    from rich.console import Console

    from swarmgate.demo_model import find_model
    from swarmgate.service import run_until_signalled
    from swarmgate.supervisor.plan import make_plan
    from swarmgate.supervisor.swarm import run_swarm

    console = Console(soft_wrap=True, highlight=False, markup=False)
    plan = make_plan(find_model(model), port=port, num_servers=servers)
    run_until_signalled(run_swarm(plan, console, is_verbose=verbose), log_format="console")
