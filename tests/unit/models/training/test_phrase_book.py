"""Phrase books are checked when a theme reads them."""

import pytest

from models.training.phrase_book import (
    PhraseBookError,
    read_dialogues,
    read_keys,
    read_texts,
)


def test_a_single_text_is_read_as_a_list_of_one() -> None:
    """Facts with one answer need no brackets in the file."""
    assert read_texts("facts", "capitals", "entries", "Japan") == ("Tokyo",)


def test_a_missing_entry_is_named() -> None:
    """The message says which entry of which book."""
    with pytest.raises(PhraseBookError, match=r"facts.json has no entry capitals/nowhere"):
        read_texts("facts", "capitals", "nowhere")


def test_an_entry_of_another_shape_is_refused() -> None:
    """Neither an object as texts, nor texts as an object or as dialogues."""
    with pytest.raises(PhraseBookError, match="must be a text or a list of texts"):
        read_texts("facts", "capitals")
    with pytest.raises(PhraseBookError, match="must be an object"):
        read_keys("people", "animals")
    with pytest.raises(PhraseBookError, match="must list objects with questions and answers"):
        read_dialogues("people", "animals")
