"""Conversations in which the model must remember what the caller said before."""

from dataclasses import dataclass
from random import Random

from models.training.documents import Exchange
from models.training.grammar import capitalized
from models.training.phrase_book import read_keys, read_texts
from models.training.themes.lists import THINGS
from models.training.themes.people import NAMES

_PETS = ("cat", "dog", "rabbit", "mouse", "turtle", "hen", "donkey", "goat", "horse", "duck")


@dataclass(frozen=True, slots=True)
class Subject:
    """Something a caller says about themselves and asks for later; patterns know `{value}`."""

    values: tuple[str, ...]
    tell: tuple[str, ...]
    replies: tuple[str, ...]
    ask: tuple[str, ...]
    answers: tuple[str, ...]
    untold: tuple[str, ...]


_VALUES = {"name": NAMES, "color": THINGS["colors"], "pet": _PETS}
SUBJECTS = {
    subject: Subject(
        _VALUES[subject],
        *(
            read_texts("memory", subject, part)
            for part in ("tell", "replies", "ask", "answers", "untold")
        ),
    )
    for subject in read_keys("memory")
}


def draw_memory(random: Random) -> tuple[Exchange, Exchange]:
    """What the caller says, and the later question for it; two times out of three, a name."""
    subject = SUBJECTS[random.choice(("name", "name", "name", "name", "color", "pet"))]
    value = random.choice(subject.values)

    def draw(patterns: tuple[str, ...]) -> str:
        return capitalized(random.choice(patterns).format(value=value))

    told = Exchange(draw(subject.tell), draw(subject.replies))
    return told, Exchange(draw(subject.ask), draw(subject.answers))


def ask_what_was_not_told(random: Random) -> Exchange:
    """The question without anything to remember; right only where nothing was told before."""
    subject = random.choice(tuple(SUBJECTS.values()))
    return Exchange(random.choice(subject.ask), random.choice(subject.untold))
