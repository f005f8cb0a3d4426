"""What the scheduler is told about the pages of the engine's sessions."""

from collections.abc import Callable, Mapping, Sequence

from swarm_server.engine.serving.session import EngineSession
from swarm_server.kv.memory import KVMemory
from swarm_server.scheduler import Holding, Ticket


class SessionAccounts:
    """`PageAccounts` of all open sessions; see there."""

    def __init__(
        self,
        memory: KVMemory,
        sessions: Mapping[int, EngineSession],
        *,
        rest_s: float,
        clock: Callable[[], float],
    ) -> None:
        """Look at a memory and its sessions.

        Args:
            memory: that all sessions share.
            sessions: by id; changes as they come and go.
            rest_s: a session rests when its last step was so long ago.
            clock: of the steps.
        """
        self._memory = memory
        self._sessions = sessions
        self._rest_s = rest_s
        self._clock = clock

    @property
    def num_available(self) -> int:
        """Pages that could be allocated now."""
        return self._memory.num_available

    def num_needed(self, tickets: Sequence[Ticket]) -> int:
        """Return how many pages the tokens taken of these take, at most."""
        sessions = self._sessions
        return sum([sessions[each.session_id].pages.num_needed(each.num_taken) for each in tickets])

    def holdings(self) -> Sequence[Holding]:
        """Return what sessions would give back; those in a batch must keep it."""
        rested_since = self._clock() - self._rest_s
        return [
            Holding(
                session.session_id,
                session.pages.num_reclaimable(),
                is_resting=session.work is None and session.stepped_at <= rested_since,
            )
            for session in self._sessions.values()
            if not session.is_in_batch
        ]
