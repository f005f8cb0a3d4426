"""Word lists and sentence patterns: the JSON files of `phrases/`, read and checked.

Knows files and their shape; what the words mean is for the themes.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "phrases"


class PhraseBookError(Exception):
    """A phrase book lacks an entry, or the entry has another shape than its theme expects."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Questions that all get any of the same answers; both are patterns for `str.format_map`."""

    questions: tuple[str, ...]
    answers: tuple[str, ...]


@cache
def _read_book(book: str) -> Any:  # JSON: checked by the readers below
    return json.loads((FOLDER / f"{book}.json").read_text(encoding="utf-8"))


def read_entry(book: str, *path: str) -> Any:
    """The JSON value at `path` in a book, unchecked.

    Raises:
        PhraseBookError: there is no such entry.
    """
    entry = _read_book(book)
    for key in path:
        if not isinstance(entry, dict) or key not in entry:
            raise PhraseBookError(f"{book}.json has no entry {'/'.join(path)}")
        entry = entry[key]
    return entry


def read_keys(book: str, *path: str) -> tuple[str, ...]:
    """The names of the entries of the object at `path`, in the file's order."""
    entry = read_entry(book, *path)
    if not isinstance(entry, dict):
        raise PhraseBookError(f"{book}.json: {'/'.join(path)} must be an object")
    return tuple(entry)


def read_texts(book: str, *path: str) -> tuple[str, ...]:
    """A list of texts, or a single text as a list of one."""
    entry = read_entry(book, *path)
    texts = [entry] if isinstance(entry, str) else entry
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise PhraseBookError(f"{book}.json: {'/'.join(path)} must be a text or a list of texts")
    return tuple(texts)


def read_dialogues(book: str, *path: str) -> tuple[Dialogue, ...]:
    """A list of objects with `questions` and `answers`."""
    entry = read_entry(book, *path)
    try:
        return tuple(Dialogue(tuple(one["questions"]), tuple(one["answers"])) for one in entry)
    except (TypeError, KeyError) as error:
        where = f"{book}.json: {'/'.join(path)}"
        raise PhraseBookError(f"{where} must list objects with questions and answers") from error
