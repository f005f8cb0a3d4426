"""Answers other peers' calls, in the Petals dialect.

Entry points: `InfoHandler`, `InferenceHandler` (with pushes) and `TrainingHandler`. Everything a
peer sends is checked here, before it reaches the engine.
"""

from swarm_server.handlers.admission import Admission
from swarm_server.handlers.inference import InferenceHandler, SessionTimeouts
from swarm_server.handlers.info import InfoHandler
from swarm_server.handlers.open_streams import OpenStreams
from swarm_server.handlers.opening import ServedModel
from swarm_server.handlers.pusher import Pusher
from swarm_server.handlers.training import TrainingHandler
from swarm_server.handlers.training_admission import TrainingAdmission

__all__ = [
    "Admission",
    "InferenceHandler",
    "InfoHandler",
    "OpenStreams",
    "Pusher",
    "ServedModel",
    "SessionTimeouts",
    "TrainingAdmission",
    "TrainingHandler",
]
