"""The reply of `rpc_info`: what one server says about itself. Source: PETALS_PROTOCOL §2.4."""

from dataclasses import dataclass
from typing import Final

import torch

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.serializer import pack, pack_descriptor, unpack
from swarm_protocol.tensor_codec import DTYPES, Compression

FEATURES_KEY: Final = "swarmgate"
"""An extra key that only our servers send; stock clients ignore it."""


@dataclass(frozen=True, slots=True)
class PeerDescription:
    """Facts from `rpc_info`. `cache_tokens_left` counts one token of one block as one.

    `can_roll_back` is proof that `start_from_position` truncates the KV cache there; a peer that
    does not say so must not be asked to (PETALS_PROTOCOL §5.4).
    """

    version: str
    hidden_size: int
    dtype: torch.dtype
    cache_tokens_left: int = 0
    compression: Compression = Compression.NONE
    can_roll_back: bool = False

    def to_wire(self) -> bytes:
        """Return the reply to a request that named a block."""
        hidden = self._descriptor((None, 1, 2048, self.hidden_size), self.dtype, self.compression)
        prompts = self._descriptor((None,), self.dtype, Compression.NONE)
        hypo_ids = self._descriptor((None,), torch.int64, Compression.NONE)
        return pack(
            {
                "version": self.version,
                "dht_client_mode": False,
                "cache_tokens_available": self.cache_tokens_left,
                "forward_schema": ((hidden,), {}),
                "outputs_schema": (hidden,),
                "keyword_names": (),
                "inference_schema": ((hidden, prompts, hypo_ids), {}),
                FEATURES_KEY: {"rollback": self.can_roll_back},
            }
        )

    def to_wire_without_block(self) -> bytes:
        """Return the reply to a request that named no block."""
        return pack(
            {
                "version": self.version,
                "dht_client_mode": False,
                "cache_tokens_available": self.cache_tokens_left,
                FEATURES_KEY: {"rollback": self.can_roll_back},
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "PeerDescription":
        """Return the checked facts of a reply to a request that named a block.

        Raises:
            MalformedMessageError: a key is missing or has the wrong type.
        """
        fields = unpack(data)
        if not isinstance(fields, dict):
            raise MalformedMessageError("the reply to rpc_info is not a dictionary")
        try:
            (descriptor,) = fields["outputs_schema"]
            size = descriptor["size"]
            dtype = DTYPES[str(descriptor["dtype"]).removeprefix("torch.")]
            features = fields.get(FEATURES_KEY)
            return cls(
                version=str(fields["version"]),
                hidden_size=int(size[-1]),
                dtype=dtype,
                cache_tokens_left=int(fields["cache_tokens_available"]),
                compression=Compression(descriptor["compression"]),
                can_roll_back=isinstance(features, dict) and features.get("rollback") is True,
            )
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise MalformedMessageError("the reply to rpc_info lacks what Petals fixes") from error

    @staticmethod
    def _descriptor(
        size: tuple[int | None, ...], dtype: torch.dtype, compression: Compression
    ) -> object:
        return pack_descriptor(
            {
                "size": size,
                "dtype": str(dtype),
                "layout": "torch.strided",
                "requires_grad": False,
                "pin_memory": False,
                "compression": int(compression),
                "device_type": None,
                "device_index": None,
            }
        )
