"""The command line: starts gateways, block servers and private swarms.

Entry point: `swarmgate.cli.main`. The one package that may import every other; nobody imports it.
"""
