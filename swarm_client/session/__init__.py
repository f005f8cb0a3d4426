"""Inference sessions: one generation's trips along a route of servers.

Entry point: `InferenceSession`. What a hop's dialect must offer is `HopSession`. Must not know how
servers are found, nor what tokens are.
"""

from swarm_client.session.events import (
    EventListener,
    HopLost,
    HopRestored,
    SessionEvent,
    WaitingForBlocks,
)
from swarm_client.session.hop_session import HopOutput, HopSession, StepInputs
from swarm_client.session.inference_session import InferenceSession
from swarm_client.session.timings import HopTiming, StepTimings

__all__ = [
    "EventListener",
    "HopLost",
    "HopOutput",
    "HopRestored",
    "HopSession",
    "HopTiming",
    "InferenceSession",
    "SessionEvent",
    "StepInputs",
    "StepTimings",
    "WaitingForBlocks",
]
