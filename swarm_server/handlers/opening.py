"""What the first message of a session asks for. Source: PETALS_PROTOCOL §2.5 and §3.1."""

from dataclasses import dataclass
from typing import Final

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockChain, BlockRange
from swarm_server.errors import KVMemoryError, NotServedError
from swarm_server.handlers.step_request import StepLimits, StepRequest, read_step

_MAX_ALLOC_WAIT_S: Final = 600.0
_METADATA_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What sessions may be opened on, and how large they may be."""

    dht_prefix: str
    blocks: BlockRange
    hidden_size: int
    max_length: int
    max_batch_tokens: int
    adapters: frozenset[str] = frozenset()

    @property
    def max_frame_bytes(self) -> int:
        """More than this no valid step has: float64 hidden states, and prompts for each token."""
        num_rows = self.max_batch_tokens * (1 + len(self.blocks))
        return num_rows * self.hidden_size * 8 + _METADATA_BYTES

    def find_blocks(self, uid: str) -> BlockRange:
        """Return the blocks that a chain names.

        Raises:
            MalformedMessageError: it is no chain.
            NotServedError: they are not all ours.
        """
        chain = BlockChain.parse(uid)
        if chain.dht_prefix != self.dht_prefix or not self.blocks.covers(chain.blocks):
            raise NotServedError.blocks(uid)
        return chain.blocks

    def limits(self, blocks: BlockRange) -> StepLimits:
        """Return what tensors for these blocks must fit."""
        return StepLimits(self.hidden_size, len(blocks), self.max_batch_tokens)

    def check_adapter(self, name: str | None) -> str | None:
        """Return the adapter that a peer asks for; None is the bare model.

        Raises:
            NotServedError: it is not one of ours.
        """
        if name is not None and name not in self.adapters:
            raise NotServedError.adapter(name)
        return name


@dataclass(frozen=True, slots=True)
class Opening:
    """A session to be opened, checked. `wait_s`: how long the caller waits for KV memory."""

    uid: str
    blocks: BlockRange
    batch_size: int
    max_length: int
    session_id: str | None
    adapter: str | None
    structure: object
    wait_s: float
    limits: StepLimits

    @property
    def num_slots(self) -> int:
        """KV memory to reserve; see the function."""
        return num_slots(self.batch_size, self.max_length, self.blocks)


def num_slots(num_rows: int, max_length: int, blocks: BlockRange) -> int:
    """Return the KV memory that a session reserves: tokens times blocks.

    Rows without tokens count as if they had one: their page tables are memory, too.
    """
    return num_rows * max(1, max_length) * len(blocks)


def read_opening(request: StepRequest, served: ServedModel) -> Opening:
    """Return what the first message asks for; its tensors are checked, too.

    Raises:
        MalformedMessageError: the chain or metadata is no such thing.
        NotServedError: blocks or an adapter that are not here.
        KVMemoryError: longer than any session may be.
        RequestRefusedError: a tensor does not fit.
    """
    blocks = served.find_blocks(request.uid)
    metadata = request.metadata
    adapter = served.check_adapter(metadata.active_adapter)
    limits = served.limits(blocks)
    return Opening(
        uid=request.uid,
        blocks=blocks,
        batch_size=read_step(request, metadata.args_structure, limits).hidden.shape[0],
        max_length=_checked_length(metadata.max_length, served.max_length),
        session_id=metadata.session_id,
        structure=metadata.args_structure,
        wait_s=min(metadata.alloc_timeout_s, _MAX_ALLOC_WAIT_S),
        limits=limits,
        adapter=adapter,
    )


def _checked_length(max_length: int | None, limit: int) -> int:
    if max_length is None or max_length < 0:
        raise MalformedMessageError(
            f"rpc_inference metadata must contain int max_length, got {max_length}"
        )
    if max_length > limit:
        raise KVMemoryError.over_limit(max_length, limit)
    return max_length
