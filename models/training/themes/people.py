"""Who the stories are about, and which (kind, name) pairs are kept for the check."""

import zlib
from dataclasses import dataclass
from functools import cache
from random import Random

from models.training.phrase_book import read_texts

FEMALE_NAMES = read_texts("people", "female_names")
MALE_NAMES = read_texts("people", "male_names")
NAMES = FEMALE_NAMES + MALE_NAMES
ANIMALS = read_texts("people", "animals")
ADJECTIVES = read_texts("people", "adjectives")
FEMALE_PEOPLE = read_texts("people", "female_people")
MALE_PEOPLE = read_texts("people", "male_people")
PEOPLE = FEMALE_PEOPLE + MALE_PEOPLE + read_texts("people", "other_people")


@dataclass(frozen=True, slots=True)
class Character:
    """Someone in a story: a fox named Lily."""

    kind: str
    name: str

    @property
    def pronouns(self) -> tuple[str, str, str]:
        """Subject, possessive and object form."""
        return ("she", "her", "her") if self.name in FEMALE_NAMES else ("he", "his", "him")


def is_held_out(kind: str, name: str) -> bool:
    """Whether no document may pair the two: a tenth of all pairs, the same ones forever."""
    return zlib.crc32(f"{name}/{kind}".encode()) % 10 == 0


def held_out_animals() -> list[Character]:
    """Every animal that no story is told about under that name."""
    return [Character(kind, name) for kind in ANIMALS for name in NAMES if is_held_out(kind, name)]


@cache
def _names_for(kind: str) -> tuple[str, ...]:
    names = NAMES
    if kind in FEMALE_PEOPLE:
        names = FEMALE_NAMES
    elif kind in MALE_PEOPLE:
        names = MALE_NAMES
    return tuple(name for name in names if not is_held_out(kind, name))


def draw_kind(random: Random) -> str:
    """An animal three times out of four, else a person."""
    return random.choice(ANIMALS if random.random() < 0.75 else PEOPLE)


def draw_character(
    random: Random, *, kind: str | None = None, unlike: Character | None = None
) -> Character:
    """A character that is not held out; one `unlike` another shares neither kind nor name."""
    while True:
        chosen_kind = kind or draw_kind(random)
        character = Character(chosen_kind, random.choice(_names_for(chosen_kind)))
        if unlike is None or (
            character.name != unlike.name and (kind or character.kind != unlike.kind)
        ):
            return character
