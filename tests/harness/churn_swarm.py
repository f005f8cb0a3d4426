"""A swarm of real processes whose servers are killed and come back: stages x replicas."""

import json
import os
import signal
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self, assert_never

import psutil

from swarm_protocol.identifiers import BlockRange, PeerId
from tests.harness.killing import Force
from tests.harness.programs import Program
from tests.harness.striking import Striker

_START_S: Final = 120.0


@dataclass(frozen=True, slots=True, eq=False)
class Replica:
    """One running server of a stage. The second one of each stage has a key of its own.

    Attributes:
        stage, index: its place in the swarm; whoever takes it over has the same.
        maddr: by which others may join.
        striker: sends it signals, in their order.
    """

    stage: int
    index: int
    program: Program
    peer: PeerId
    maddr: str
    process: psutil.Process
    daemon: psutil.Process
    striker: Striker

    def strike(self, force: Force) -> None:
        """Send the signals; returns at once."""
        match force:
            case Force.PROCESS:
                self.striker.send("KILL", self.process)
            case Force.DAEMON:
                self.striker.send("KILL", self.daemon)
            case Force.BOTH:
                self.striker.send("KILL", self.process, self.daemon)
            case Force.SILENCE:
                self.striker.send("STOP", self.process, self.daemon)
            case _:
                assert_never(force)

    def wake(self) -> None:
        """Let it go on, after `Force.SILENCE`."""
        self.striker.send("CONT", self.daemon, self.process)

    def end(self) -> None:
        """Make an end of whatever is left of it."""
        for process in (self.process, self.daemon):
            if process.is_running():
                process.kill()
        psutil.wait_procs([self.daemon], timeout=10)
        self.program.wait(timeout_s=10)


class ChurnSwarm(AbstractContextManager["ChurnSwarm"]):
    """A bootstrap peer and `num_replicas` servers per stage, all ready inside the `with` block.

    Attributes:
        spans: blocks of each stage.
        replicas: all servers, by stage and index. A struck one stays until `restore`.
    """

    def __init__(
        self,
        model: Path | str,
        spans: Sequence[str],
        *,
        num_replicas: int = 2,
        dtype: str,
        is_prepared: bool = False,
    ) -> None:
        """Describe it; `is_prepared`: see `Program`."""
        self.spans = tuple(BlockRange.parse(span) for span in spans)
        self.replicas: dict[tuple[int, int], Replica] = {}
        self.struck: set[PeerId] = set()
        self._is_silenced = False
        self._has_bootstrap = True
        self._model = model
        self._num_replicas = num_replicas
        self._is_prepared = is_prepared
        self._options = ("--dtype", dtype, "--threads", "1")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._keys = Path(stack.enter_context(TemporaryDirectory()))
            self._striker = stack.enter_context(Striker())
            self._stack = stack
            self.bootstrap = stack.enter_context(Program("bootstrap"))
            ready = self.bootstrap.wait_for('"ready": true', timeout_s=_START_S)
            self.maddr: str = json.loads(ready)["maddrs"][0]
            self._start([(s, i) for s in range(len(self.spans)) for i in range(self._num_replicas)])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for replica in self.replicas.values():  # one after the other they would drain for long
            self.strike(replica, Force.BOTH)
        self._end_struck()
        self._stack.close()

    def replica(self, peer: PeerId) -> Replica:
        """Return the server with that id."""
        return next(replica for replica in self.replicas.values() if replica.peer == peer)

    def standby(self, stage: int, active: PeerId) -> Replica:
        """Return a server of a stage that runs and is not the one in use."""
        return next(
            replica
            for replica in self.replicas.values()
            if replica.stage == stage and replica.peer not in self.struck | {active}
        )

    def is_fit(self, stages: Collection[int]) -> bool:
        """Tell whether all servers of some stages run, one of each, and nobody was silenced.

        Who was silenced would hold up whoever dials it when its ban is over.
        """
        short = {one.stage for one in self.replicas.values() if one.peer in self.struck}
        served = {one.stage for one in self.replicas.values() if one.peer not in self.struck}
        is_whole = len(served) == len(self.spans)
        return is_whole and not self._is_silenced and short.isdisjoint(stages)

    def strike(self, replica: Replica, force: Force) -> None:
        """Kill a server; returns at once."""
        self.struck.add(replica.peer)
        self._is_silenced |= force is Force.SILENCE
        replica.strike(force)

    def restart(self, replicas: Sequence[Replica]) -> None:
        """Stop servers with a SIGTERM, all at once, and start others in their places."""
        for replica in replicas:
            replica.program.send(signal.SIGTERM)
        for replica in replicas:
            replica.program.wait(timeout_s=_START_S)
        self._start([(replica.stage, replica.index) for replica in replicas])

    def lose_bootstrap(self) -> None:
        """Kill the bootstrap peer; servers to come join by one of those that there are."""
        for process in self.bootstrap.family():
            process.kill()
        self._has_bootstrap = False
        self._join_by_replica()

    def restore(self) -> None:
        """Start anew what was struck; returns when all of it serves."""
        places = self._end_struck()
        if not self._has_bootstrap:
            self._join_by_replica()
        self._start(places)

    def _join_by_replica(self) -> None:
        self.maddr = next(iter(self.replicas.values())).maddr

    def _end_struck(self) -> list[tuple[int, int]]:
        places = [place for place, one in self.replicas.items() if one.peer in self.struck]
        for place in places:
            self.replicas.pop(place).end()
        self.struck.clear()
        self._is_silenced = False
        return places

    def _start(self, places: Sequence[tuple[int, int]]) -> None:
        programs = {place: self._stack.enter_context(self._program(*place)) for place in places}
        for (stage, index), program in programs.items():
            facts = json.loads(program.wait_for('"ready": true', timeout_s=_START_S))
            process, daemon = program.family()
            self.replicas[stage, index] = Replica(
                stage,
                index,
                program,
                PeerId(facts["peer_id"]),
                facts["maddrs"][0],
                process,
                daemon,
                self._striker,
            )

    def _program(self, stage: int, index: int) -> Program:
        key = ("--identity", str(self._keys / f"{stage}-{index}")) if index else ()
        return Program(
            *("serve", str(self._model), "--blocks", str(self.spans[stage])),
            *("--initial-peers", self.maddr, *self._options, *key),
            is_prepared=self._is_prepared and "PYTHONPATH" not in os.environ,
        )
