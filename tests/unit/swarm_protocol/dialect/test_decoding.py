"""Whatever a peer sends: a frame, or a typed error."""

from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_protocol.dialect import decode_reply, decode_request, encode_close, encode_opened
from swarm_protocol.dialect.openings import Opened
from swarm_protocol.errors import MalformedMessageError
from tests.unit.swarm_protocol.dialect.strategies import SEEDS, damage, replies, requests

DECODERS = st.sampled_from([decode_request, decode_reply])


@settings(max_examples=300)
@given(frame=st.one_of(requests, replies), seed=SEEDS, decode=DECODERS)
def test_damaged_frames_are_a_typed_error_or_another_frame(
    frame: bytes, seed: int, decode: Callable[[bytes], object]
) -> None:
    """Bytes of a right frame are changed, cut off or put in, in ten ways."""
    random = Random(seed)
    for _ in range(10):
        with suppress(MalformedMessageError):
            decode(damage(frame, random))


@given(data=st.binary(max_size=200), decode=DECODERS)
def test_bytes_of_any_kind_are_a_typed_error_or_a_frame(
    data: bytes, decode: Callable[[bytes], object]
) -> None:
    """They need not look like a frame at all."""
    with suppress(MalformedMessageError):
        decode(data)


def test_a_client_does_not_send_replies() -> None:
    """A server takes none."""
    with pytest.raises(MalformedMessageError, match="OPENED"):
        decode_request(encode_opened([Opened(1, 0)]))


def test_a_server_does_not_send_requests() -> None:
    """A client takes none."""
    with pytest.raises(MalformedMessageError, match="CLOSE"):
        decode_reply(encode_close([1]))
