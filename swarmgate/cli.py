"""Entry point of the `swarmgate` command."""


def main() -> None:
    """Run the command line."""
