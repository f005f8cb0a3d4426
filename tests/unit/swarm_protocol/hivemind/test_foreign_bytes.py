"""What hivemind writes for us, compared with the documented bytes: a newer one may write others."""

from hivemind.dht.storage import DictionaryDHTValue
from hivemind.proto.p2pd_pb2 import CallUnaryRequest, PersistentConnectionRequest
from hivemind.utils import MSGPackSerializer

from swarm_protocol.methods import RPC_INFO
from swarm_protocol.records import ServerRecord, ServerState
from swarm_protocol.serializer import unpack

FAR_FUTURE = 4e9
CALL_ID = bytes(range(16))
DICTIONARY = bytes.fromhex(
    "c73650"
    "93"
    "cb7ff0000000000000"
    "cb41d954fc7c000000"
    "91"
    "93"
    "a6516d50656572"
    "c40fc70c409302cb3ff000000000000080"
    "cb41d954fc7c000000"
)
"""The records of one block: one server, `QmPeer` (PETALS_PROTOCOL §1.1)."""


def test_a_unary_call_has_the_documented_envelope() -> None:
    """A length, then an id of the call, the peer, the method and the message (§0.3)."""
    call = CallUnaryRequest(peer=b"\x12\x20" + bytes(32), proto=RPC_INFO, data=b"\x0a\x03m.0")

    envelope = PersistentConnectionRequest(callId=CALL_ID, callUnary=call).SerializeToString()

    assert len(envelope) == 0x66
    assert envelope.hex() == (
        f"0a10{CALL_ID.hex()}1a520a221220{'00' * 32}1225{RPC_INFO.encode().hex()}1a050a036d2e30"
    )


def test_the_records_of_a_block_are_read_from_the_documented_bytes() -> None:
    """One entry: an online server that names no blocks, whose record we accept."""
    dictionary = MSGPackSerializer.loads(DICTIONARY)

    assert isinstance(dictionary, DictionaryDHTValue)
    with dictionary.freeze():  # of 2023, so that it is long out of date
        ((peer, entry),) = dictionary.items()
        assert MSGPackSerializer.dumps(dictionary) == DICTIONARY
    assert (peer, entry.expiration_time) == ("QmPeer", 1700000240.0)
    record = ServerRecord.from_wire(unpack(entry.value))
    assert (record.state, record.throughput) == (ServerState.ONLINE, 1.0)


def test_merging_records_keeps_the_newest_of_each_subkey() -> None:
    """As nodes do with copies from several peers."""
    old, new = DictionaryDHTValue(), DictionaryDHTValue()
    for dictionary, expirations in ((old, (1.0, 4.0)), (new, (3.0, 2.0))):
        for subkey, expiration in zip("ab", expirations, strict=True):
            dictionary.store(subkey, b"", FAR_FUTURE + expiration)

    for copies in ((old, new), (new, old)):
        merged = DictionaryDHTValue()
        for copy in copies:
            for subkey, entry in copy.items():
                merged.store(subkey, entry.value, entry.expiration_time)

        newest = [merged.get(subkey).expiration_time - FAR_FUTURE for subkey in "ab"]
        assert newest == [3.0, 4.0]
