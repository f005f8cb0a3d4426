"""Questions with one known answer: capitals, opposites, and the terms of this field."""

from dataclasses import dataclass
from random import Random

from models.training.documents import Exchange
from models.training.grammar import capitalized, without_article
from models.training.phrase_book import read_keys, read_texts


@dataclass(frozen=True, slots=True)
class FactTable:
    """Facts that are asked for in the same words.

    Patterns know `{key}` ("a river"), `{Key}` ("A river"), `{bare_key}` ("river") and `{value}`.
    """

    entries: dict[str, tuple[str, ...]]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    reverse_questions: tuple[str, ...] = ()
    reverse_answers: tuple[str, ...] = ()

    @classmethod
    def read(cls, book: str, table: str) -> "FactTable":
        """The table of that name in a phrase book; raises `PhraseBookError`."""
        parts = read_keys(book, table)
        texts = {part: read_texts(book, table, part) for part in parts if part != "entries"}
        keys = read_keys(book, table, "entries")
        return cls({key: read_texts(book, table, "entries", key) for key in keys}, **texts)

    def ask(self, random: Random) -> Exchange:
        """One question about one entry, sometimes the other way round."""
        key = random.choice(tuple(self.entries))
        value = random.choice(self.entries[key])
        is_reverse = bool(self.reverse_questions) and random.random() < 0.2
        questions = self.reverse_questions if is_reverse else self.questions
        answers = self.reverse_answers if is_reverse else self.answers
        words = {
            "key": key,
            "Key": capitalized(key),
            "bare_key": without_article(key),
            "value": value,
        }
        answer = random.choice(answers).format_map(words)
        return Exchange(random.choice(questions).format_map(words), capitalized(answer))


CAPITALS = FactTable.read("facts", "capitals")
TERMS = FactTable.read("terms", "terms")
OPPOSITES = FactTable.read("facts", "opposites")
SOUNDS = FactTable.read("facts", "sounds")
COLORS = FactTable.read("facts", "colors")
DEFINITIONS = FactTable.read("facts", "definitions")
SIGNS = FactTable.read("facts", "signs")
