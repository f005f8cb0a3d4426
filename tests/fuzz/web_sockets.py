"""WebSocket dialogues as a stranger would have them: right, wrong, and anything in between."""

import asyncio
import json
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

_PATH: Final = "/api/v2/generate"
_READ_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `announced` overrides the length that its head tells."""

    opcode: int
    payload: bytes
    is_final: bool = True
    reserved: int = 0
    is_masked: bool = True
    announced: int | None = None

    def encode(self) -> bytes:
        """Return the frame's bytes (RFC 6455, section 5.2)."""
        length = len(self.payload) if self.announced is None else self.announced
        head = bytes([self.is_final << 7 | self.reserved << 4 | self.opcode])
        mask_bit = self.is_masked << 7
        if length < 126:
            head += bytes([mask_bit | length])
        elif length < 2**16:
            head += bytes([mask_bit | 126]) + struct.pack("!H", length)
        else:
            head += bytes([mask_bit | 127]) + struct.pack("!Q", length)
        if not self.is_masked:
            return head + self.payload
        key = b"\x01\x02\x03\x04"
        return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(self.payload))


@dataclass(frozen=True, slots=True)
class Read:
    """Take what there is."""


@dataclass(frozen=True, slots=True)
class Vanish:
    """Break the connection off."""


Step: TypeAlias = Frame | bytes | Read | Vanish

OPENING: Final[dict[str, Any]] = {
    "type": "open_inference_session",
    "model": "demo",
    "max_length": 64,
}
GENERATE: Final[dict[str, Any]] = {"type": "generate", "inputs": "Hi", "max_new_tokens": 3}

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
_names = st.sampled_from(
    [
        *("type", "model", "max_length", "inputs", "max_new_tokens", "stop_sequence", "do_sample"),
        *("temperature", "top_k", "top_p", "resume", "extra_stop_sequences", "seed", "session_id"),
    ]
)


def _mutated(message: dict[str, Any]) -> st.SearchStrategy[str]:
    """The message with some fields changed, and some missing."""
    changes = st.dictionaries(_names, _json, max_size=3)
    missing = st.sets(st.sampled_from(sorted(message)), max_size=1)
    return st.builds(
        lambda new, gone: json.dumps(
            {name: value for name, value in {**message, **new}.items() if name not in gone}
        ),
        changes,
        missing,
    )


def _text_frame(text: str) -> Frame:
    return Frame(1, text.encode("utf-8", "surrogatepass"))


_texts = st.one_of(
    st.just(json.dumps(OPENING)),
    st.just(json.dumps(GENERATE)),
    st.just(json.dumps({**GENERATE, "stop_sequence": "###", "max_new_tokens": 1})),
    _mutated(OPENING),
    _mutated(GENERATE),
    st.builds(json.dumps, _json),
    st.text(max_size=40),
    st.sampled_from(["[" * 50_000, '{"type":' * 5_000, '"' + "x" * 300_000 + '"', ""]),
)
_frames = st.builds(
    Frame,
    opcode=st.integers(0, 15),
    payload=st.binary(max_size=140),
    is_final=st.booleans(),
    reserved=st.sampled_from([0, 0, 0, 1, 4, 7]),
    is_masked=st.sampled_from([True, True, True, False]),
    announced=st.sampled_from([None, None, None, 0, 125, 126, 2**16, 2**31, 2**63]),
)
_closings = st.builds(
    lambda code, reason: Frame(8, struct.pack("!H", code) + reason),
    st.integers(0, 2**16 - 1),
    st.binary(max_size=30),
)
steps: Final[st.SearchStrategy[Step]] = st.one_of(
    st.builds(_text_frame, _texts),
    st.builds(_text_frame, _texts),
    _frames,
    _closings,
    st.binary(max_size=60),
    st.just(Read()),
    st.just(Vanish()),
)
openings: Final = st.sampled_from([(), (_text_frame(json.dumps(OPENING)),)])


async def hold_dialogue(port: int, dialogue: tuple[Step, ...]) -> bytes:
    """Connect, do all steps, leave; return all that came once the gateway has closed, too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()
    try:
        writer.write(_handshake(port))
        received += await reader.readuntil(b"\r\n\r\n")
        for step in dialogue:
            match step:
                case Frame():
                    writer.write(step.encode())
                case bytes():
                    writer.write(step)
                case Read():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_READ_S):
                            received += await reader.read(2**16)
                case Vanish():
                    writer.transport.abort()
                    return bytes(received)
        writer.write_eof()
        received += await reader.read(-1)
    except (ConnectionError, OSError):
        pass  # the gateway has had enough
    finally:
        writer.transport.abort()
    return bytes(received)


def _handshake(port: int) -> bytes:
    key = os.urandom(16).hex()[:22] + "=="
    return (
        f"GET {_PATH} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nupgrade: websocket\r\n"
        f"connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
    ).encode()
