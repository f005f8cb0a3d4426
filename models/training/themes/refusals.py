"""Everything the model does not know: it says so, and offers what it can do."""

import string
from random import Random

from models.training.documents import Exchange
from models.training.phrase_book import read_dialogues, read_texts
from models.training.themes.facts import CAPITALS
from models.training.themes.lists import THINGS
from models.training.themes.people import ANIMALS, NAMES
from models.training.themes.small_talk import draw_exchange

_SUBJECTS = read_texts("refusals", "subjects")
_QUESTIONS = read_texts("refusals", "questions")
_REGRETS = read_texts("refusals", "regrets")
_REASONS = read_texts("refusals", "reasons")
_OFFERS = read_texts("refusals", "offers")
_MADE_UP = tuple(
    read_texts("refusals", part)
    for part in ("made_up_starts", "made_up_qualities", "made_up_syllables")
)
_NEAR_MISSES = read_texts("refusals", "near_misses")
_KNOWN_WORDS = {
    "country": tuple(CAPITALS.entries),
    "city": tuple(city for cities in CAPITALS.entries.values() for city in cities),
    "animal": ANIMALS,
    "name": NAMES,
    "fruit": THINGS["fruits"],
    "vegetable": THINGS["vegetables"],
    "food": THINGS["foods"],
    "color": THINGS["colors"],
    "tool": THINGS["tools"],
    "planet": THINGS["planets"],
    "instrument": THINGS["instruments"],
    "sport": THINGS["sports"],
}
_OUTSIDE_WORLD = read_dialogues("refusals", "dialogues")
_MISUNDERSTOOD = read_texts("refusals", "misunderstood")
_LARGE_NUMBERS = read_texts("refusals", "large_numbers")


def ask_beyond_knowledge(random: Random) -> Exchange:
    """A question about a real subject, or a made-up one so that the list is not all it knows."""
    subject = random.choice(_SUBJECTS) if random.random() < 0.65 else _made_up_subject(random)
    question = random.choice(_QUESTIONS).format(
        subject=subject, other=random.choice(_SUBJECTS), number=random.choice((100, 500, 1000))
    )
    return Exchange(question, _draw_refusal(random))


def ask_near_miss(random: Random) -> Exchange:
    """Something unknown about things whose names the model knows from elsewhere."""
    words = {kind: random.choice(names) for kind, names in _KNOWN_WORDS.items()}
    question = random.choice(_NEAR_MISSES).format(
        **words,
        other_city=random.choice(_KNOWN_WORDS["city"]),
        number=random.randint(2, 99),
    )
    return Exchange(question, _draw_refusal(random))


def ask_about_outside_world(random: Random) -> Exchange:
    """What needs a clock, a connection or another language."""
    return draw_exchange(random, _OUTSIDE_WORLD)


def ask_with_large_numbers(random: Random) -> Exchange:
    """An operation on numbers of three to five digits."""
    left, right = (random.randint(100, 10 ** random.randint(3, 5)) for _ in range(2))
    task = f"{left} {random.choice('+-*/')} {right}"
    question = random.choice((f"What is {task}?", f"How much is {task}?", task, f"{task} = ?"))
    return Exchange(question, random.choice(_LARGE_NUMBERS))


def _draw_refusal(random: Random) -> str:
    regret, reason, offer = map(random.choice, (_REGRETS, _REASONS, _OFFERS))
    parts = random.choice(((regret, reason, offer),) * 3 + ((regret, offer), (regret, reason)))
    return " ".join(parts)


def _made_up_subject(random: Random) -> str:
    starts, qualities, syllables = _MADE_UP
    word = "".join(random.choices(syllables, k=random.randint(2, 4)))
    return random.choice(starts) + random.choice(qualities) + word


def type_nonsense(random: Random) -> Exchange:
    """Letters, signs or question marks without meaning."""
    letters, signs = string.ascii_lowercase, string.printable[:94]
    nonsense = random.choice(
        (
            "".join(random.choices(letters, k=random.randint(3, 14))),
            "".join(random.choices(signs, k=random.randint(3, 12))),
            "?" * random.randint(1, 4),
            " ".join(
                "".join(random.choices(letters, k=random.randint(2, 7)))
                for _ in range(random.randint(2, 5))
            ),
        )
    )
    return Exchange(nonsense, random.choice(_MISUNDERSTOOD))
