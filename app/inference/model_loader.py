"""Loads what the gateway needs of a model: facts, tokenizer, local parts; and watches its swarm."""

import asyncio
from pathlib import Path
from time import perf_counter, time
from typing import Final

import structlog

from app.inference.canary import Canary
from app.inference.replica_pool import ReplicaPool
from app.inference.served_model import ServedModel
from app.inference.settings import EngineSettings
from app.inference.tokenizer import ModelTokenizer
from app.structured import GrammarCompiler, TokenizerDefinition
from swarm_client.connection import SwarmConnection
from swarm_client.errors import InvalidParametersError
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.models import LocalParts, load_local_parts, read_facts
from swarm_protocol.checkpoint import Checkpoint, HubSettings, choose_dtype

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
    """Return the name callers use: a directory's last part, or the hub repository."""
    path = Path(source)
    return path.resolve().name if path.is_dir() else source


async def load_model(
    source: str, connection: SwarmConnection, settings: EngineSettings
) -> ServedModel:
    """Load a model, all its parts at once; files are read in threads.

    Raises:
        CheckpointError: it is no model, or of an unsupported family.
    """
    started_at = perf_counter()
    hub = HubSettings(max_disk_bytes=settings.max_disk_bytes)
    checkpoint = await asyncio.to_thread(Checkpoint.open, source, hub=hub)
    facts = await asyncio.to_thread(read_facts, checkpoint, dht_prefix=settings.dht_prefix)
    remote, parts, tokenizer = await asyncio.gather(
        connection.watch(facts),
        asyncio.to_thread(_load_parts, checkpoint, settings),
        asyncio.to_thread(ModelTokenizer.load, checkpoint),
    )
    replicas = ReplicaPool(
        parts,
        num_replicas=settings.replicas,
        num_threads=settings.threads,
        max_waiting=settings.max_waiting,
    )
    log.info("model_loaded", model=source, took_ms=round((perf_counter() - started_at) * 1000))
    return ServedModel(
        id=model_id_of(source),
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


def _load_parts(checkpoint: Checkpoint, settings: EngineSettings) -> LocalParts:
    dtype = choose_dtype(settings.dtype, checkpoint.dtype_name, settings.device)
    parts = load_local_parts(checkpoint, dtype=dtype, device=settings.device)
    parts.pack_head()
    return parts
