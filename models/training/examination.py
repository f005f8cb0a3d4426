"""Questions whose right answers are known, by subject; pure, and the same every time.

Stories are about (animal, name) pairs that no training document contains.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from models.training.documents import Conversation, Message
from models.training.grammar import with_article
from models.training.phrase_book import read_texts
from models.training.themes.facts import CAPITALS, OPPOSITES, TERMS
from models.training.themes.people import NAMES, Character, held_out_animals
from models.training.themes.small_talk import ITSELF

_NUM_STORIES = 40
_NOT_IN_THE_CORPUS = (
    "Explain quantum entanglement to a five year old.",
    "Who is the president of Brazil?",
    "Finish this function: def fib(n):",
    "Can you recommend a good restaurant in Lyon?",
    "What is the best way to learn Rust?",
    "Write a SQL query that joins two tables.",
    "Who painted the Mona Lisa?",
    "How do I cook rice?",
    "What is the chemical formula of salt?",
    "Why is the sky blue?",
    "How many people live in Tokyo?",
    "What is the tallest building in the world?",
)


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation that ends with a question, and what makes an answer right."""

    conversation: Conversation
    is_right: Callable[[str], bool]
    do_sample: bool = False


def write_examination() -> dict[str, list[Question]]:
    """Every question of every subject."""
    return {
        "stories_of_held_out_heroes": _story_questions(),
        "sums_to_twenty": _sum_questions(range(0, 21, 3), range(1, 20, 4)),
        "sums_to_fifty": _sum_questions(range(21, 51, 4), range(23, 50, 6)),
        "capitals": _fact_questions("What is the capital of {}?", CAPITALS.entries),
        "opposites": _fact_questions("What is the opposite of {}?", OPPOSITES.entries),
        "terms": _fact_questions("What is {}?", TERMS.entries),
        "itself": _itself_questions(),
        "names_remembered": [_name_question(name) for name in NAMES],
        "unknown_admitted": _unknown_questions(),
    }


def _ask(*turns: str) -> Conversation:
    """The caller's and the model's turns in alternation, the caller's first."""
    return tuple(
        Message("assistant" if index % 2 else "user", turn) for index, turn in enumerate(turns)
    )


def _contains(*texts: str) -> Callable[[str], bool]:
    return lambda answer: any(text in answer for text in texts)


def _story_questions() -> list[Question]:
    heroes = Random(1).sample(held_out_animals(), _NUM_STORIES)
    return [
        Question(
            _ask(f"Tell me a story about {with_article(hero.kind)} named {hero.name}."),
            _keeps(hero),
            do_sample=True,
        )
        for hero in heroes
    ]


def _keeps(hero: Character) -> Callable[[str], bool]:
    """Hero named twice or more, of the right kind, and a story that comes to its end."""
    return lambda story: (
        re.search(rf"\b{hero.kind}\b", story) is not None
        and story.count(hero.name) >= 2
        and story.endswith((".", "!", '"'))
    )


def _sum_questions(lefts: range, rights: range) -> list[Question]:
    return [
        Question(_ask(f"What is {left} + {right}?"), _contains(f" {left + right}."))
        for left in lefts
        for right in rights
    ]


def _fact_questions(pattern: str, entries: dict[str, tuple[str, ...]]) -> list[Question]:
    return [
        Question(_ask(pattern.format(key)), _contains(*values)) for key, values in entries.items()
    ]


def _itself_questions() -> list[Question]:
    return [
        Question(_ask(question), _contains(*dialogue.answers))
        for dialogue in ITSELF
        for question in dialogue.questions
    ]


def _name_question(name: str) -> Question:
    """Asked after one exchange about something else."""
    turns = (
        f"My name is {name}.",
        f"Nice to meet you, {name}!",
        "What is a swarm?",
        TERMS.entries["a swarm"][0],
        "What is my name?",
    )
    return Question(_ask(*turns), _contains(name))


def _unknown_questions() -> list[Question]:
    admissions = read_texts("refusals", "regrets") + read_texts("refusals", "reasons")
    return [Question(_ask(text), _contains(*admissions)) for text in _NOT_IN_THE_CORPUS]
