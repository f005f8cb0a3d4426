"""`python -m swarmgate`, the same as `swarmgate`."""

from swarmgate.cli import main

main()
