"""`swarmgate.hello`: which version of the dialect two peers share, and what the server serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from swarm_protocol.dialect.fields import Fields
from swarm_protocol.dialect.steps import WANTS_PUSH
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange, check_dht_prefix
from swarm_protocol.serializer import pack, unpack
from swarm_protocol.tensor_codec import DTYPES, dtype_name

_MAX_VERSIONS: Final = 64
_MAX_ADAPTERS: Final = 4096
_MAX_NAME_LENGTH: Final = 256
_MAX_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HelloRequest:
    """What a client asks: the versions that it speaks, and the model that it wants."""

    versions: tuple[int, ...]
    dht_prefix: str

    def to_wire(self) -> bytes:
        """Return the bytes of the request."""
        return pack({"versions": list(self.versions), "dht_prefix": self.dht_prefix})

    @classmethod
    def parse(cls, data: bytes) -> "HelloRequest":
        """Return the checked request.

        Raises:
            MalformedMessageError: a key is missing or has a value that does not fit.
        """
        fields = Fields(unpack(data, max_bytes=_MAX_BYTES))
        versions = fields.items("versions", most=_MAX_VERSIONS)
        return cls(
            versions=tuple(version for version in versions if type(version) is int),
            dht_prefix=check_dht_prefix(fields.text("dht_prefix", max_length=_MAX_NAME_LENGTH)),
        )


@dataclass(frozen=True, slots=True)
class HelloReply:
    """What a server says about itself.

    Attributes:
        version: of the dialect, to be used in all frames.
        dtype: of the hidden states that it sends, and prefers to receive.
        page_size: tokens of one page, and so of one step of a prefix hash.
        max_frame_tokens: over all rows of one frame, and so of one step.
        max_inflight_tokens: of one stream; beyond it the server stops reading.
        max_length: tokens of one row of a session.
        step_flags: that it heeds; servers before these were told only know the first one.
    """

    version: int
    blocks: BlockRange
    hidden_size: int
    dtype: torch.dtype
    page_size: int
    max_frame_tokens: int
    max_inflight_tokens: int
    max_length: int
    adapters: tuple[str, ...] = ()
    step_flags: int = WANTS_PUSH

    def to_wire(self) -> bytes:
        """Return the bytes of the reply."""
        return pack(
            {
                "version": self.version,
                "blocks": [self.blocks.start, self.blocks.end],
                "hidden_size": self.hidden_size,
                "dtype": dtype_name(self.dtype),
                "page_size": self.page_size,
                "max_frame_tokens": self.max_frame_tokens,
                "max_inflight_tokens": self.max_inflight_tokens,
                "max_length": self.max_length,
                "adapters": list(self.adapters),
                "step_flags": self.step_flags,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "HelloReply":
        """Return the checked reply.

        Raises:
            MalformedMessageError: a key is missing or has a value that does not fit.
        """
        fields = Fields(unpack(data, max_bytes=_MAX_BYTES))
        return cls(
            version=fields.whole("version", least=1),
            blocks=fields.blocks("blocks"),
            hidden_size=fields.whole("hidden_size", least=1),
            dtype=_float_dtype(fields.text("dtype", max_length=_MAX_NAME_LENGTH)),
            page_size=fields.whole("page_size", least=1),
            max_frame_tokens=fields.whole("max_frame_tokens", least=1),
            max_inflight_tokens=fields.whole("max_inflight_tokens", least=1),
            max_length=fields.whole("max_length", least=1),
            adapters=_names(fields.items("adapters", most=_MAX_ADAPTERS)),
            step_flags=fields.whole("step_flags") if fields.holds("step_flags") else WANTS_PUSH,
        )


def _float_dtype(name: str) -> torch.dtype:
    dtype = DTYPES.get(name)
    if dtype in (torch.float32, torch.bfloat16, torch.float16):
        return dtype
    raise MalformedMessageError(f"hidden states cannot be {name!r:.40}")


def _names(items: Sequence[object]) -> tuple[str, ...]:
    names = tuple(item for item in items if isinstance(item, str))
    if len(names) != len(items) or any(len(name) > _MAX_NAME_LENGTH for name in names):
        raise MalformedMessageError("adapters must be a list of names")
    return names
