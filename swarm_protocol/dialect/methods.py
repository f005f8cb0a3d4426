"""Names of our own methods. Source: docs/reference/protocol.md."""

from typing import Final

HELLO: Final = "swarmgate.hello"
"""Unary: what the server speaks and serves. A peer without it speaks the Petals dialect only."""

STEPS: Final = "swarmgate.steps"
"""Stream: the steps of all sessions between two peers."""
