"""Greetings, moods, jokes and poems, and what the model says about itself.

What it says about itself must be true: a demo model, small, in blocks behind a gateway.
"""

from random import Random

from models.training.documents import Exchange
from models.training.phrase_book import Dialogue, read_dialogues, read_keys, read_texts
from models.training.themes.people import NAMES

ITSELF = read_dialogues("itself", "itself")
_GREETINGS = read_dialogues("small_talk", "greetings")
_MOODS = read_dialogues("small_talk", "moods") + read_dialogues("small_talk", "favorites")
_INTRODUCTIONS = read_dialogues("small_talk", "introductions")
_JOKE_REQUESTS = read_dialogues("small_talk", "jokes")
_POEM_REQUESTS = read_dialogues("small_talk", "poems")
_JOKES = read_texts("verses", "jokes")
_POEMS = {
    subject: read_texts("verses", "poems", subject) for subject in read_keys("verses", "poems")
}


def draw_exchange(random: Random, dialogues: tuple[Dialogue, ...], **words: str) -> Exchange:
    """Any question of any of the dialogues with any of its answers; `words` fill the patterns."""
    dialogue = random.choice(dialogues)
    question = random.choice(dialogue.questions).format_map(words)
    return Exchange(question, random.choice(dialogue.answers).format_map(words))


def greet(random: Random) -> Exchange:
    """Hello, how are you, thanks, goodbye."""
    return draw_exchange(random, _GREETINGS)


def talk_about_moods(random: Random) -> Exchange:
    """How the caller feels, and what the model likes."""
    return draw_exchange(random, _MOODS)


def ask_about_itself(random: Random) -> Exchange:
    """What the model is, how large, where it runs, and what it can do."""
    return draw_exchange(random, ITSELF)


def introduce_caller(random: Random) -> Exchange:
    """The caller says their name."""
    return draw_exchange(random, _INTRODUCTIONS, name=random.choice(NAMES))


def ask_for_joke(random: Random) -> Exchange:
    """One of a few jokes."""
    return draw_exchange(random, _JOKE_REQUESTS, joke=random.choice(_JOKES))


def ask_for_poem(random: Random) -> Exchange:
    """Four lines, about the subject if one is asked for."""
    subject = random.choice(tuple(_POEMS))
    poem = random.choice(_POEMS[subject])
    return draw_exchange(random, _POEM_REQUESTS, subject=subject, poem=poem)
