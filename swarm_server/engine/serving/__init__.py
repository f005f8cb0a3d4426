"""The engine shell: sessions, their steps, and the batches that they are computed in.

Entry points: `Engine` and the `EngineSession`s that it opens. Knows pages, the scheduler and the
compute thread; must not know peers or messages.
"""

from swarm_server.engine.serving.engine import Engine
from swarm_server.engine.serving.limits import EngineCounters, EngineLimits
from swarm_server.engine.serving.requests import SessionRequest, Step, StepResult
from swarm_server.engine.serving.running_batch import PagedSpan
from swarm_server.engine.serving.session import EngineSession

__all__ = [
    "Engine",
    "EngineCounters",
    "EngineLimits",
    "EngineSession",
    "PagedSpan",
    "SessionRequest",
    "Step",
    "StepResult",
]
