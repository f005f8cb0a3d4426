from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from app.inference.detokenizer import Detokenizer
from tests.harness.tiny_models import byte_tokenizer
from tests.unit.app.inference.sentencepiece import WORDS, ids_of_bytes, sentencepiece_tokenizer

Decode = Callable[[Sequence[int]], str]


@cache
def byte_level(skips_special: bool = True) -> Decode:
    """Every id is a byte or a special token."""
    tokenizer = byte_tokenizer().backend_tokenizer
    return partial(tokenizer.decode, skip_special_tokens=skips_special)


def pieces(decode: Decode, ids: Sequence[int], context: Sequence[int] = ()) -> list[str]:
    detokenizer = Detokenizer(decode, context)
    return [*map(detokenizer.push, ids), detokenizer.finish()]


def ids_of(text: str) -> list[int]:
    ids: list[int] = byte_tokenizer().backend_tokenizer.encode(text).ids
    return ids


@given(ids=st.lists(st.integers(0, 261), max_size=60), skips_special=st.booleans())
def test_pieces_equal_decoding_all_bytes_at_once(ids: list[int], skips_special: bool) -> None:
    """Any ids, also those that are no text: broken characters included."""
    decode = byte_level(skips_special)

    assert "".join(pieces(decode, ids)) == decode(ids)


@given(text=st.text(max_size=20), context=st.text(max_size=20))
def test_no_piece_holds_half_a_character(text: str, context: str) -> None:
    """Characters of several tokens come whole, whatever stands in front."""
    got = pieces(byte_level(), ids_of(text), ids_of(context))

    assert "".join(got) == text
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in got)


words = st.lists(st.sampled_from([*([i] for i in range(len(WORDS))), ids_of_bytes("\u4f60")]))


@given(tokens=words, context=words)
def test_leading_spaces_are_as_in_the_whole_text(
    tokens: list[list[int]], context: list[list[int]]
) -> None:
    """A tokenizer that strips the first space strips it once, not for every piece."""
    decode = sentencepiece_tokenizer().decode
    ids, context_ids = list(chain(*tokens)), list(chain(*context))[-16:]

    got = "".join(pieces(decode, ids, context_ids))

    assert decode(context_ids) + got == decode(context_ids + ids)


def test_a_character_comes_with_its_last_byte() -> None:
    """Nothing is passed on before, and `is_whole` says so."""
    detokenizer = Detokenizer(byte_level())

    got = [(detokenizer.push(i), detokenizer.is_whole) for i in ids_of("\u4f60")]

    assert got == [("", False), ("", False), ("\u4f60", True)]


def test_half_a_character_at_the_end_is_one_replacement_character() -> None:
    """When no more tokens come, what is left is shown as broken."""
    assert pieces(byte_level(), ids_of("a\u4f60")[:-1]) == ["a", "", "", "\ufffd"]


def test_the_window_stays_small_whatever_comes() -> None:
    """A token costs the same after many broken bytes, special tokens or words."""
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return byte_level()(ids)

    broken, special, word = ids_of("\u4f60")[1:2], [2], ids_of("a")
    pieces(decode, [*broken * 200, *special * 200, *word * 200], word * 500)

    assert longest <= 32
