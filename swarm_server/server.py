"""A block server from start to end: load, serve, announce, drain.

JOINING ── weights loaded, handlers registered ──> ONLINE ── drain ──> OFFLINE
"""

import asyncio
from contextlib import suppress
from time import perf_counter
from typing import Final, Never

from swarm_protocol.dialect.methods import HELLO, STEPS
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.logs import get_logger
from swarm_protocol.methods import (
    RPC_BACKWARD,
    RPC_BACKWARD_STREAM,
    RPC_FORWARD,
    RPC_FORWARD_STREAM,
    RPC_INFERENCE,
    RPC_INFO,
    RPC_PUSH,
)
from swarm_protocol.node import Node, StreamHandler
from swarm_protocol.records import ServerRecord, ServerState
from swarm_server.announcing import Announced, Announcer
from swarm_server.device_watch import wait_broken
from swarm_server.engine import ComputeThread, Span
from swarm_server.engine.measuring import SpanSpeed
from swarm_server.engine.serving import Engine
from swarm_server.handlers import (
    Admission,
    InferenceHandler,
    InfoHandler,
    OpenStreams,
    Pusher,
    ServedModel,
    SessionTimeouts,
    TrainingAdmission,
    TrainingHandler,
)
from swarm_server.handlers.dialect import DialectHandler, HelloHandler, LaneLimits, PushLanes
from swarm_server.kv import KVBudget
from swarm_server.loading import load_span
from swarm_server.planning import ServingPlan, choose_blocks, read_plan
from swarm_server.record import describe_model, describe_server, own_version
from swarm_server.serving_engine import build_engine, prepare_span
from swarm_server.settings import ServerSettings
from swarm_server.successors import Successors

log = get_logger(__name__)

_END_TIMEOUT_S: Final = 10.0


class BlockServer:
    """Serves a span of blocks on a node. Create with `start`, end with `close`."""

    def __init__(
        self,
        node: Node,
        settings: ServerSettings,
        plan: ServingPlan,
        blocks: BlockRange,
        compute: ComputeThread,
    ) -> None:
        self.peer_id: PeerId = node.peer_id
        self.blocks = blocks
        self.model = settings.model
        self.dht_prefix = plan.dht_prefix
        self._node = node
        self._settings = settings
        self._plan = plan
        self._compute = compute
        self._speed: SpanSpeed | None = None
        shape = plan.model.shape
        self._budget = KVBudget(
            num_slots=settings.kv_tokens * len(blocks),
            slot_bytes=2 * shape.num_kv_heads * shape.head_dim * plan.dtype.itemsize,
            overcommit=settings.kv_overcommit,
        )
        self._admission = Admission(self._budget, max_sessions=settings.max_sessions)
        self._training = TrainingAdmission(
            max_running=settings.max_training_requests, timeout_s=settings.training_timeout_s
        )
        self._streams = OpenStreams(
            max_streams=settings.max_streams, max_per_peer=settings.max_streams_per_peer
        )
        self._pusher = Pusher(node, plan.dht_prefix)
        self._push_lanes = PushLanes(node, plan.dht_prefix)
        self._inference: InferenceHandler | None = None
        self._dialect: DialectHandler | None = None
        self._engine: Engine | None = None
        model = describe_model(settings.model, plan.model.num_blocks)
        self._announcer = Announcer(
            node,
            Announced(plan.dht_prefix, blocks, model),
            self._describe,
            period_s=settings.update_period_s,
        )
        self._successors = Successors(
            node, plan.dht_prefix, blocks.end, period_s=settings.update_period_s
        )
        self._watching: list[asyncio.Task[None]] = []
        self._is_offline = False

    @classmethod
    async def start(cls, node: Node, settings: ServerSettings) -> "BlockServer":
        """Load the blocks and serve them; returns when the server is online.

        Raises:
            AdapterError: an adapter cannot be served.
            BlockRangeError: the model has no such blocks; the message names how many it has.
            CheckpointError: the model cannot be loaded.
            DeviceError: there is no such device.
            SwarmError: the swarm could not be asked which blocks it lacks.
        """
        compute = ComputeThread(settings.threads)
        try:
            plan = await compute.run(lambda: read_plan(settings))
            blocks = await choose_blocks(node, settings, plan)
            server = cls(node, settings, plan, blocks, compute)
        except BaseException:
            compute.leave()  # it may wait for a hub, and holds nothing
            raise
        try:
            await server._go_online()
        except BaseException:
            await server.close()
            raise
        return server

    @property
    def num_sessions(self) -> int:
        """Sessions that hold KV memory, or wait for it."""
        return self._admission.num_sessions

    @property
    def kv_tokens_left(self) -> int:
        """Tokens for which KV memory may still be promised, in all blocks."""
        return self._budget.slots_left // len(self.blocks)

    @property
    def kv_tokens_free(self) -> int:
        """Tokens of one sequence for which there are pages now, whatever was promised."""
        return 0 if self._engine is None else self._engine.num_free_tokens

    async def wait_broken(self) -> Never:
        """Wait, while online, until the device computes nothing any more.

        Raises:
            DeviceBrokenError: it does not; `drain` and `close`, and let another process try.
        """
        assert self._engine is not None
        await wait_broken(self._plan.device, self._engine.batch_failed, self._compute)

    async def drain(self) -> None:
        """Announce the end, take nothing new, and let what runs go on up to `drain_s`."""
        await self._go_offline()
        await self._wait_idle(self._settings.drain_s)
        log.info("server_drained", num_sessions=self.num_sessions, **self._describe_work())

    def _describe_work(self) -> dict[str, float]:
        """Return what the engine has done, for the log."""
        if self._engine is None:
            return {}
        counters = self._engine.counters
        kv_bytes = self._engine.num_slots_touched * self._budget.slot_bytes
        return {
            "num_batches": counters.num_batches,
            "num_rows": counters.num_rows,
            "num_tokens": counters.num_tokens,
            "num_preemptions": counters.num_preemptions,
            "kv_mib_touched": round(kv_bytes / 2**20, 1),
        }

    async def close(self) -> None:
        """End all sessions and requests, and free everything but the node. Idempotent.

        A thread that still loads, and so may wait for a hub, is left to end by itself.
        """
        await self._go_offline()
        if self._inference is not None:
            self._inference.end_all()
        if self._dialect is not None:
            self._dialect.end_all()
        self._training.end_all()
        await self._wait_idle(_END_TIMEOUT_S)
        if self._engine is not None:
            self._engine.close()
        await self._pusher.close()
        await self._push_lanes.close()
        if self._engine is None:
            self._compute.leave()
        else:
            await self._compute.close()

    async def _wait_idle(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._admission.wait_idle()
                await self._training.wait_idle()

    async def _go_online(self) -> None:
        started_at = perf_counter()
        await self._announcer.publish(ServerState.JOINING)
        span, engine = await self._compute.run(self._load)
        self._engine = engine
        await self._register_handlers(span, engine)
        await self._announcer.publish(ServerState.ONLINE)
        self._watching = [
            asyncio.create_task(self._announcer.keep_announcing()),
            asyncio.create_task(self._successors.keep_looking()),
        ]
        log.info(
            "server_started",
            peer=self.peer_id,
            model=self.model,
            blocks=str(self.blocks),
            took_ms=round((perf_counter() - started_at) * 1000),
        )

    def _load(self) -> tuple[Span, Engine]:
        plan = self._plan
        span = load_span(
            plan.model,
            self.blocks,
            dtype=plan.dtype,
            device=plan.device,
            adapters=plan.adapters,
        )
        ready = prepare_span(span, self._settings)
        self._speed = ready.speed
        return span, build_engine(ready, self._compute, self._settings)

    async def _register_handlers(self, span: Span, engine: Engine) -> None:
        settings = self._settings
        served = ServedModel(
            dht_prefix=self.dht_prefix,
            blocks=self.blocks,
            hidden_size=span.shape.hidden_size,
            max_length=settings.inference_max_length,
            max_batch_tokens=settings.max_batch_tokens,
            adapters=frozenset(span.adapters),
        )
        timeouts = SessionTimeouts(settings.step_timeout_s, settings.session_timeout_s)
        self._inference = InferenceHandler(served, engine, self._admission, timeouts, self._pusher)
        info = InfoHandler(
            served,
            dtype=span.dtype,
            version=own_version(),
            count_slots_left=lambda: self._budget.slots_left,
        )
        await self._node.serve_unary(RPC_INFO, info.answer)
        await self._serve_stream(RPC_INFERENCE, self._inference.serve)
        await self._node.serve_unary(RPC_PUSH, self._inference.push)
        training = TrainingHandler(served, span, self._compute, self._training)
        await self._node.serve_unary(RPC_FORWARD, training.forward)
        await self._serve_stream(RPC_FORWARD_STREAM, training.serve_forward)
        await self._node.serve_unary(RPC_BACKWARD, training.backward)
        await self._serve_stream(RPC_BACKWARD_STREAM, training.serve_backward)
        await self._register_dialect(served, span, engine)

    async def _register_dialect(self, served: ServedModel, span: Span, engine: Engine) -> None:
        settings = self._settings
        limits = LaneLimits.of_model(
            served, step_s=settings.step_timeout_s, session_s=settings.session_timeout_s
        )
        self._dialect = DialectHandler(served, engine, self._admission, limits, self._push_lanes)
        hello = HelloHandler(served, limits, dtype=span.dtype, page_size=settings.page_size)
        await self._serve_stream(STEPS, self._dialect.serve)
        await self._node.serve_unary(HELLO, hello.answer)

    async def _serve_stream(self, method: str, handler: StreamHandler) -> None:
        await self._node.serve_stream(method, self._streams.bounded(handler))

    async def _go_offline(self) -> None:
        if self._is_offline:
            return
        self._is_offline = True
        self._admission.start_draining()
        self._training.start_draining()
        if self._dialect is not None:
            self._dialect.start_draining()
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self._announcer.publish(ServerState.OFFLINE)

    def _describe(self, state: ServerState) -> ServerRecord:
        return describe_server(
            state,
            self.blocks,
            dtype=self._plan.dtype,
            public_name=self._settings.public_name,
            speed=self._speed,
            slots_left=self._budget.slots_left,
            adapters=tuple(adapter.name for adapter in self._plan.adapters),
        ).model_copy(update={"next_pings": self._successors.round_trips()})
