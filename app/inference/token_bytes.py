"""The bytes that single tokens stand for. Pure; knows the ways in which pieces are written."""

import re
from collections.abc import Callable
from typing import Final

_HEX_PIECE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE: Final = "\u2581"  # SentencePiece's
_PRINTABLE: Final = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))


def byte_reader(decoder: str, special_pieces: frozenset[str]) -> Callable[[str], bytes]:
    """Return what turns a piece of the vocabulary into its bytes.

    Args:
        decoder: JSON of the tokenizer's decoder.
        special_pieces: these are written as they read.
    """
    read_plain = _read_byte_level if '"ByteLevel"' in decoder else _read_spaced

    def read(piece: str) -> bytes:
        return piece.encode() if piece in special_pieces else read_plain(piece)

    return read


def _read_byte_level(piece: str) -> bytes:
    """One character per byte: the alphabet of GPT-2."""
    if not all(character in _BYTES for character in piece):
        return piece.encode()  # added to the vocabulary as plain text
    return bytes(_BYTES[character] for character in piece)


def _read_spaced(piece: str) -> bytes:
    """Text with visible spaces; bytes that are no characters by their numbers."""
    match = _HEX_PIECE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else piece.replace(_SPACE, " ").encode()


def _alphabet() -> dict[str, int]:
    """Source: `bytes_to_unicode` of GPT-2's encoder: what cannot be printed comes behind 255."""
    others = [byte for byte in range(256) if byte not in _PRINTABLE]
    return {chr(byte): byte for byte in _PRINTABLE} | {
        chr(256 + index): byte for index, byte in enumerate(others)
    }


_BYTES: Final = _alphabet()
