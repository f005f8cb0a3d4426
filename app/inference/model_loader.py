"""Loads what the gateway needs of a model: facts, tokenizer, local parts; and watches its swarm."""

import asyncio
from time import perf_counter, time
from typing import Final

import structlog

from app.inference.canary import Canary
from app.inference.local_copies import CopyPlan, load_copies, plan_copies
from app.inference.memory_budget import MemoryBudget
from app.inference.model_source import ModelSource
from app.inference.replica_pool import ReplicaPool
from app.inference.served_model import ServedModel
from app.inference.settings import EngineSettings
from app.inference.tokenizer import ModelTokenizer
from app.structured import GrammarCompiler, TokenizerDefinition
from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.errors import InvalidParametersError
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.models import LocalParts, ModelFacts, read_facts
from swarm_protocol.checkpoint import Checkpoint, HubSettings

log = structlog.get_logger(__name__)

_SAMPLING_FIELDS: Final = (
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
)


def model_id_of(source: str) -> str:
    """Return the name callers use; see `ModelSource`."""
    return ModelSource.parse(source).id


async def load_model(
    source: str,
    connection: SwarmConnection,
    settings: EngineSettings,
    memory: MemoryBudget,
    *,
    dht_prefix: str | None = None,
) -> ServedModel:
    """Load a model, all its parts at once; files are read in threads.

    Raises:
        CheckpointError: it is no model, or of an unsupported family.
        NoDeviceError: this machine has no such device.
        MemoryBudgetError: its local parts do not fit; none was loaded.
        DeadlineExceededError, NodeError: its servers cannot be looked up.
    """
    started_at = perf_counter()
    hub = HubSettings(max_disk_bytes=settings.max_disk_bytes)
    chosen = ModelSource.parse(source)
    if not chosen.is_pinned:
        log.warning("model_not_pinned", model=source)
    checkpoint = await asyncio.to_thread(
        Checkpoint.open, chosen.name, revision=chosen.revision, hub=hub
    )
    facts = await asyncio.to_thread(read_facts, checkpoint, dht_prefix=dht_prefix)
    plans = await asyncio.to_thread(plan_copies, checkpoint, facts, settings)
    with memory.taking(chosen.id, sum(plan.num_bytes for plan in plans)):
        remote, copies, tokenizer = await _load(checkpoint, facts, plans, connection)
    replicas = ReplicaPool(
        *copies,
        num_replicas=settings.replicas,
        num_threads=settings.threads,
        max_waiting=settings.max_waiting,
    )
    log.info(
        "model_loaded",
        model=source,
        took_ms=round((perf_counter() - started_at) * 1000),
        memory_bytes=memory.bytes_of(chosen.id),
        heads=[plan.head or str(plan.dtype).removeprefix("torch.") for plan in plans],
    )
    return ServedModel(
        id=chosen.id,
        facts=facts,
        remote=remote,
        is_demo=checkpoint.config.get("is_demo") is True,
        created_at=time(),
        chat_defaults=read_chat_defaults(checkpoint),
        tokenizer=tokenizer,
        replicas=replicas,
        canary=Canary(
            remote,
            replicas,
            period_s=settings.canary_period_s,
            max_age_s=settings.canary_max_age_s,
        ),
        matchers=GrammarCompiler(
            TokenizerDefinition(
                write=tokenizer.definition,
                vocab_size=max(facts.vocab_size, len(tokenizer)),
                eos_token_ids=tuple(facts.eos_token_ids),
            )
        ),
        wait_for_blocks_s=settings.wait_for_blocks_s,
    )


def read_chat_defaults(checkpoint: Checkpoint) -> SamplingParameters:
    """Return the sampling that generation_config.json recommends; what it lacks is off.

    Numbers that are out of range are as good as none: they must not keep a model from serving.
    """
    config = checkpoint.read_json("generation_config.json") or {}
    fields = {name: config[name] for name in _SAMPLING_FIELDS if config.get(name) is not None}
    try:
        return SamplingParameters(**fields)
    except InvalidParametersError as error:
        log.warning("chat_defaults_ignored", model=checkpoint.source, field=error.field)
        return SamplingParameters()


async def _load(
    checkpoint: Checkpoint,
    facts: ModelFacts,
    plans: tuple[CopyPlan, ...],
    connection: SwarmConnection,
) -> tuple[RemoteModel, tuple[LocalParts, ...], ModelTokenizer]:
    """Do all at once; when one of them fails, nothing stays behind."""
    loading = asyncio.gather(
        asyncio.to_thread(load_copies, checkpoint, plans),
        asyncio.to_thread(ModelTokenizer.load, checkpoint),
    )
    try:
        remote = await connection.watch(facts)
    except BaseException:
        await asyncio.gather(loading, return_exceptions=True)
        raise
    try:
        copies, tokenizer = await loading
    except BaseException:
        await connection.forget(remote)
        raise
    return remote, copies, tokenizer
