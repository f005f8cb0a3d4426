"""Naming some things of a kind, the days and months, and saying words again."""

from random import Random

from models.training.documents import Exchange
from models.training.grammar import capitalized, enumerated
from models.training.phrase_book import read_keys, read_texts
from models.training.themes.people import ANIMALS, NAMES

THINGS = {
    "animals": ANIMALS,
    "names": NAMES,
    **{kind: read_texts("lists", "things", kind) for kind in read_keys("lists", "things")},
}
_CALENDAR = {
    "day": ("week", read_texts("lists", "days")),
    "month": ("year", read_texts("lists", "months")),
}
_NUMBER_WORDS = read_texts("lists", "number_words")
_LIST_REQUESTS = read_texts("lists", "list_requests")
_LIST_ANSWERS = read_texts("lists", "list_answers")
_REPEAT_REQUESTS = read_texts("lists", "repeat_requests")
# A request may be typed in lower case, so only words that are lower case anyway.
_REPEATABLE = tuple(word for words in THINGS.values() for word in words if word.islower())


def ask_for_list(random: Random) -> Exchange:
    """Two to five different things of one kind."""
    things = random.choice(tuple(THINGS))
    size = random.randint(2, len(_NUMBER_WORDS) - 1)
    number = _NUMBER_WORDS[size]
    question = random.choice(_LIST_REQUESTS).format(
        count=random.choice((number, str(size))), things=things
    )
    items = enumerated(random.sample(THINGS[things], size))
    answer = random.choice(_LIST_ANSWERS).format(
        number=number, things=things, items=items, Items=capitalized(items)
    )
    return Exchange(question, answer)


def ask_about_calendar(random: Random) -> Exchange:
    """The day or month before or after another one, or all of them."""
    unit = random.choice(tuple(_CALENDAR))
    whole, names = _CALENDAR[unit]
    index = random.randrange(len(names))
    match random.choice(("after", "before", "all")):
        case "after":
            following = names[(index + 1) % len(names)]
            questions = (
                f"Which {unit} comes after {names[index]}?",
                f"What {unit} is after {names[index]}?",
            )
            answer = f"After {names[index]} comes {following}."
        case "before":
            questions = (
                f"Which {unit} comes before {names[index]}?",
                f"What {unit} is before {names[index]}?",
            )
            answer = f"Before {names[index]} comes {names[index - 1]}."
        case _:
            questions = (f"What are the {unit}s?", f"Name the {unit}s of the {whole}.")
            answer = f"The {unit}s are {enumerated(names)}."
    return Exchange(random.choice(questions), answer)


def ask_to_repeat(random: Random) -> Exchange:
    """One to four words that come back as they were given."""
    words = " ".join(random.choices(_REPEATABLE, k=random.randint(1, 4)))
    return Exchange(random.choice(_REPEAT_REQUESTS).format(words=words), words)
