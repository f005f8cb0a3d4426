"""The little English grammar that the patterns need."""

from collections.abc import Sequence


def with_article(noun: str) -> str:
    """The noun after "a" or "an", by its first letter."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def without_article(phrase: str) -> str:
    """The phrase without a leading "a", "an" or "the"."""
    first, _, rest = phrase.partition(" ")
    return rest if rest and first in ("a", "an", "the") else phrase


def capitalized(text: str) -> str:
    """The text with its first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


def enumerated(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
