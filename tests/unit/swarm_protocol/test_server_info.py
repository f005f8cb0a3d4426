from math import inf

import pytest
import torch
from hivemind.utils.serializer import MSGPackSerializer
from hivemind.utils.tensor_descr import BatchTensorDescriptor

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.serializer import pack, pack_descriptor, unpack
from swarm_protocol.server_info import PeerDescription
from swarm_protocol.tensor_codec import Compression

OURS = PeerDescription(
    version="swarmgate/0.1.0",
    hidden_size=64,
    dtype=torch.float32,
    cache_tokens_left=4096,
    can_roll_back=True,
)


def test_descriptor_has_petals_bytes() -> None:
    """Exactly eight keys; stock readers break on a missing or an extra one (§2.4)."""
    expected = (
        "c77c5188a473697a65c70740"
        "94c001cd080040"
        "a56474797065ad746f7263682e666c6f61743332"
        "a66c61796f7574ad746f7263682e73747269646564"
        "ad72657175697265735f67726164c2"
        "aa70696e5f6d656d6f7279c2"
        "ab636f6d7072657373696f6e00"
        "ab6465766963655f74797065c0"
        "ac6465766963655f696e646578c0"
    )

    assert expected in OURS.to_wire().hex()


def test_reply_for_a_block_has_the_seven_keys_and_ours() -> None:
    """Stock clients use four of them and ignore what they do not know."""
    fields = unpack(OURS.to_wire())

    assert isinstance(fields, dict)
    assert list(fields) == [
        "version",
        "dht_client_mode",
        "cache_tokens_available",
        "forward_schema",
        "outputs_schema",
        "keyword_names",
        "inference_schema",
        "swarmgate",
    ]
    assert fields["keyword_names"] == ()
    assert len(fields["inference_schema"][0]) == 3


def test_reply_without_a_block_has_three_keys_and_ours() -> None:
    """A request that names no block asks about the server, not about shapes."""
    fields = unpack(OURS.to_wire_without_block())

    assert isinstance(fields, dict)
    assert list(fields) == ["version", "dht_client_mode", "cache_tokens_available", "swarmgate"]


def test_description_round_trip() -> None:
    """A client learns what the server said."""
    assert PeerDescription.parse(OURS.to_wire()) == OURS


def stock_reply(**changes: object) -> bytes:
    """Return the reply of a Petals server, with changes."""
    descriptor = pack_descriptor(
        {
            "size": (None, 1, 2048, 64),
            "dtype": "torch.bfloat16",
            "layout": "torch.strided",
            "requires_grad": False,
            "pin_memory": False,
            "compression": 2,
            "device_type": None,
            "device_index": None,
        }
    )
    fields: dict[str, object] = {
        "version": "2.2.0.post1",
        "dht_client_mode": False,
        "cache_tokens_available": 7,
        "forward_schema": ((descriptor,), {}),
        "outputs_schema": (descriptor,),
        "keyword_names": (),
        "inference_schema": ((descriptor,), {}),
    }
    return pack(fields | changes)


def test_stock_server_has_not_proved_rollback() -> None:
    """Its version cannot prove it, so the client must not rely on it (§5.4)."""
    description = PeerDescription.parse(stock_reply())

    assert description == PeerDescription(
        version="2.2.0.post1",
        hidden_size=64,
        dtype=torch.bfloat16,
        cache_tokens_left=7,
        compression=Compression.FLOAT16,
        can_roll_back=False,
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        pack([]),
        pack({}),
        stock_reply(outputs_schema=()),
        stock_reply(outputs_schema=7),
        stock_reply(outputs_schema=({"size": (), "dtype": "torch.bfloat16", "compression": 0},)),
        stock_reply(outputs_schema=({"size": (4,), "dtype": "torch.qint8", "compression": 0},)),
        stock_reply(outputs_schema=({"size": (4,), "dtype": "float32", "compression": 77},)),
        stock_reply(outputs_schema=({"size": (None,), "dtype": "float32", "compression": 0},)),
        stock_reply(outputs_schema=({"size": (inf,), "dtype": "float32", "compression": 0},)),
        stock_reply(cache_tokens_available="many"),
        stock_reply(cache_tokens_available=inf),
    ],
)
def test_reply_that_lacks_what_petals_fixes_is_refused(data: bytes) -> None:
    """Whatever the peer sends, the client gets a typed error."""
    with pytest.raises(MalformedMessageError):
        PeerDescription.parse(data)


def test_stock_hivemind_reads_the_descriptors() -> None:
    """As clients of the release do: sizes, dtype and codec arrive."""
    fields = MSGPackSerializer.loads(OURS.to_wire())

    (hidden,) = fields["outputs_schema"]
    assert isinstance(hidden, BatchTensorDescriptor)
    assert tuple(hidden.size) == (None, 1, 2048, OURS.hidden_size)
    assert (hidden.dtype, int(hidden.compression)) == (OURS.dtype, OURS.compression)
    (arguments, keywords) = fields["inference_schema"]
    assert [descriptor.dtype for descriptor in arguments] == [hidden.dtype] * 2 + [torch.int64]
    assert keywords == {}
