"""Answers other peers' calls: `rpc_info` and `rpc_inference` of the Petals dialect.

Entry points: `InfoHandler` and `InferenceHandler`. Everything a peer sends is checked here, before
it reaches the engine.
"""

from swarm_server.handlers.admission import Admission
from swarm_server.handlers.inference import InferenceHandler, SessionTimeouts
from swarm_server.handlers.info import InfoHandler
from swarm_server.handlers.opening import ServedModel

__all__ = ["Admission", "InferenceHandler", "InfoHandler", "ServedModel", "SessionTimeouts"]
