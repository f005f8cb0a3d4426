"""Looks for marks in text that arrives in pieces. Pure."""

from collections.abc import Sequence
from typing import NamedTuple


class Found(NamedTuple):
    """Text before a mark, the mark, and the text behind it."""

    before: str
    mark: str
    behind: str


def find_mark(text: str, marks: Sequence[str]) -> Found | None:
    """Return the first mark in a text; of two at the same place, the longer one."""
    places = [(text.find(mark), -len(mark), mark) for mark in marks if mark in text]
    if not places:
        return None
    start, _, mark = min(places)
    return Found(text[:start], mark, text[start + len(mark) :])


def doubtful_length(text: str, marks: Sequence[str]) -> int:
    """Return the length of the longest end of a text that a mark may begin with."""
    longest = max(map(len, marks)) - 1
    for length in range(min(longest, len(text)), 0, -1):
        end = text[-length:]
        if any(mark.startswith(end) for mark in marks):
            return length
    return 0
