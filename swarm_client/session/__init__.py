"""Inference sessions: one generation's trips along a route of servers, in the Petals dialect.

Entry points: `InferenceSession`, and `RewindableSession`, which can also go back anywhere. Must
not know how servers are found, nor what tokens are.
"""

from swarm_client.session.inference_session import InferenceSession
from swarm_client.session.rewindable_session import RewindableSession
from swarm_client.session.timings import HopTiming, StepTimings

__all__ = ["HopTiming", "InferenceSession", "RewindableSession", "StepTimings"]
