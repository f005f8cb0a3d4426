"""Names of things in the swarm: peers, blocks and models. Pure text, no I/O.

Source: PETALS_PROTOCOL §1.3 (module keys).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NewType

import base58

from swarm_protocol.errors import MalformedMessageError

PeerId = NewType("PeerId", str)
"""A libp2p peer id as base58 text: `Qm…` (RSA) or `12D3KooW…` (Ed25519)."""

PEER_MADDR: Final = re.compile(r"/.+/(p2p|ipfs)/.")
"""How the full multiaddr of a peer begins: an address, and who is there."""

MAX_BLOCKS = 1024
"""No model has more; a longer chain of uids is refused."""


def parse_peer_id(text: object) -> PeerId:
    """Return `text` as a peer id.

    Raises:
        MalformedMessageError: it is not base58 of a sha2-256 or identity multihash.
    """
    if isinstance(text, str) and len(text) <= 128:
        try:
            digest = base58.b58decode(text)
        except ValueError:
            digest = b""
        if len(digest) > 2 and digest[0] in (0x12, 0x00) and digest[1] == len(digest) - 2:
            return PeerId(text)
    raise MalformedMessageError(f"expected a base58 peer id, got {text!r:.60}")


@dataclass(frozen=True, slots=True, order=True)
class BlockRange:
    """Half-open range of blocks `[start, end)`; may be empty."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= MAX_BLOCKS:
            raise ValueError(f"not a range of blocks: {self.start}:{self.end}")

    def __len__(self) -> int:
        return self.end - self.start

    def __contains__(self, block_index: object) -> bool:
        return isinstance(block_index, int) and self.start <= block_index < self.end

    def __str__(self) -> str:
        return f"{self.start}:{self.end}"

    @classmethod
    def parse(cls, text: str) -> "BlockRange":
        """Return the range written as `A:B`.

        Raises:
            MalformedMessageError: `text` is not two ordered numbers, or the range is empty.
        """
        match = re.fullmatch(r"(\d{1,4}):(\d{1,4})", text.strip())
        if match is None or not int(match[1]) < int(match[2]) <= MAX_BLOCKS:
            raise MalformedMessageError(f"expected blocks as START:END, e.g. 0:8, got {text!r:.40}")
        return cls(int(match[1]), int(match[2]))

    def covers(self, other: "BlockRange") -> bool:
        """Tell whether every block of `other` is in this range."""
        return self.start <= other.start and other.end <= self.end


def check_dht_prefix(text: str) -> str:
    """Return `text` when it may stand before the dot of a uid.

    Raises:
        MalformedMessageError: it is empty, overlong, or holds a dot or white space.
    """
    if not re.fullmatch(r"[^\s.]{1,200}", text):
        raise MalformedMessageError(
            f"a DHT prefix has 1 to 200 characters, none of them a dot or a space; got {text!r:.60}"
        )
    return text


def derive_dht_prefix(source: str, model_type: str) -> str:
    """Return the DHT prefix under which a model's servers meet.

    Petals' rules for hub repositories; a local directory, for which Petals demands an explicit
    prefix, gets its own name.

    Args:
        source: `organization/name` on the hub, or a directory.
        model_type: as in config.json.
    """
    name = source.rstrip("/")
    if Path(source).is_dir():
        prefix = re.sub(r"[\s.]", "-", Path(source).resolve().name)
    elif model_type == "bloom":
        prefix = (name if name.endswith("-petals") else name + "-petals").replace(".", "-")
    elif model_type == "mixtral":
        prefix = name.replace(".", "-")
    elif model_type == "falcon":
        prefix = name.rpartition("/")[2].replace(".", "-")
    else:
        last = name.rpartition("/")[2].replace(".", "-")
        prefix = last if last.endswith("-hf") else last + "-hf"
    return check_dht_prefix(prefix)


def make_uid(dht_prefix: str, block_index: int) -> str:
    """Return the uid, and DHT key, of one block: `prefix.index`."""
    return f"{dht_prefix}.{block_index}"


def parse_uid(text: str) -> tuple[str, int]:
    """Return prefix and block index of a uid.

    Raises:
        MalformedMessageError: `text` is not `prefix.index`.
    """
    prefix, _, digits = text.rpartition(".")
    if not re.fullmatch(r"0|[1-9]\d{0,3}", digits):
        raise MalformedMessageError(f"expected a uid like model.3, got {text!r:.60}")
    return check_dht_prefix(prefix), int(digits)


@dataclass(frozen=True, slots=True)
class BlockChain:
    """Consecutive blocks of one model, addressed together by uids joined with one space."""

    dht_prefix: str
    blocks: BlockRange

    def __str__(self) -> str:
        return " ".join(make_uid(self.dht_prefix, i) for i in range(*self._bounds()))

    def _bounds(self) -> tuple[int, int]:
        return self.blocks.start, self.blocks.end

    @classmethod
    def parse(cls, text: str) -> "BlockChain":
        """Return the chain written in `text`.

        Raises:
            MalformedMessageError: a uid is malformed, prefixes differ, or blocks do not follow
                each other.
        """
        uids = text.split(" ", MAX_BLOCKS)
        if len(uids) > MAX_BLOCKS:
            raise MalformedMessageError(f"a chain has at most {MAX_BLOCKS} blocks")
        parsed = [parse_uid(uid) for uid in uids]
        prefix, start = parsed[0]
        if parsed != [(prefix, start + offset) for offset in range(len(parsed))]:
            raise MalformedMessageError(
                f"the blocks of a chain follow each other in one model; got {text!r:.80}"
            )
        if start + len(parsed) > MAX_BLOCKS:
            raise MalformedMessageError(f"a model has at most {MAX_BLOCKS} blocks")
        return cls(prefix, BlockRange(start, start + len(parsed)))
