"""Entry point of the `swarmgate` command: its commands, and how their errors look.

Command modules import what they run inside the command, so that `--help` needs no torch and
`swarmgate up` starts its processes at once.
"""

import sys

import typer

from swarm_protocol.errors import SwarmError
from swarmgate.commands.bench import bench
from swarmgate.commands.bootstrap import bootstrap
from swarmgate.commands.chat import chat
from swarmgate.commands.gateway import gateway
from swarmgate.commands.generate import generate
from swarmgate.commands.keys import keys
from swarmgate.commands.serve import serve
from swarmgate.commands.status import status
from swarmgate.commands.up import up

app = typer.Typer(
    name="swarmgate",
    help="A large language model spread over many machines, served as one fast endpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (up, gateway, serve, bootstrap, status, chat, generate, bench):
    app.command()(command)
app.add_typer(keys, name="keys")


def main() -> None:
    """Run the command line; an error of ours is one sentence and exit code 1."""
    try:
        app()
    except SwarmError as error:
        typer.echo(f"swarmgate: {error}", err=True)
        sys.exit(1)
