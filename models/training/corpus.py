"""The corpus: documents drawn from the themes, the same ones for the same seed.

Conversations are bounded in length, so that every document fits one training row.
"""

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from random import Random

from models.training.documents import Conversation, Document, Exchange, Message, render
from models.training.phrase_book import read_texts
from models.training.themes import arithmetic, facts, lists, memory, refusals, small_talk, stories

Theme = Callable[[Random], Exchange]

MAX_CHARACTERS = 4000  # of one conversation; under 2048 tokens with a tokenizer of the corpus

_SHARES: dict[Theme, int] = {
    stories.ask_for_story: 8,
    facts.TERMS.ask: 8,
    refusals.ask_beyond_knowledge: 6,
    refusals.ask_near_miss: 5,
    refusals.ask_about_outside_world: 1,
    refusals.ask_with_large_numbers: 1,
    arithmetic.ask_for_result: 6,
    small_talk.ask_about_itself: 6,
    small_talk.greet: 5,
    facts.CAPITALS.ask: 3,
    arithmetic.ask_to_count: 2,
    facts.OPPOSITES.ask: 1,
    facts.SOUNDS.ask: 1,
    facts.COLORS.ask: 1,
    facts.DEFINITIONS.ask: 2,
    facts.SIGNS.ask: 1,
    lists.ask_for_list: 2,
    lists.ask_about_calendar: 1,
    lists.ask_to_repeat: 2,
    small_talk.talk_about_moods: 2,
    small_talk.introduce_caller: 1,
    small_talk.ask_for_joke: 2,
    small_talk.ask_for_poem: 2,
    stories.ask_to_go_on: 1,
    refusals.type_nonsense: 1,
}
_THEMES = tuple(chain.from_iterable(repeat(theme, share) for theme, share in _SHARES.items()))
_WITHOUT_INTRODUCTIONS = tuple(t for t in _THEMES if t != small_talk.introduce_caller)
_SYSTEM_MESSAGES = read_texts("system_messages", "system_messages")
_POLITE_STARTS = ("Please, ", "Okay, ", "Hey, ", "Well, ")


def write_corpus(*, seed: int, num_documents: int) -> list[str]:
    """Rendered documents; about 30 000 a second on one core."""
    random = Random(seed)
    return [render(write_document(random)) for _ in range(num_documents)]


def write_document(random: Random) -> Document:
    """A plain story in one of eight cases, else a conversation of one to seven exchanges."""
    if random.random() < 0.12:
        return stories.write_story(random)
    exchanges = _draw_exchanges(random)
    if random.random() < 0.3:
        system = Message("system", random.choice(_SYSTEM_MESSAGES))
        return (system, *_turns(random, exchanges))
    return _turns(random, exchanges)


def _draw_exchanges(random: Random) -> Iterator[Exchange]:
    """The turns of one conversation; what is told is asked for at the end.

    Where something is told, nothing between may introduce another name.
    """
    kind = random.random()
    if kind < 0.12:
        told, asked = memory.draw_memory(random)
        between = (
            random.choice(_WITHOUT_INTRODUCTIONS)(random) for _ in range(random.randint(0, 3))
        )
        return chain([told], between, [asked])
    if kind < 0.15:
        before = (
            random.choice(_WITHOUT_INTRODUCTIONS)(random) for _ in range(random.randint(0, 2))
        )
        return chain(before, [memory.ask_what_was_not_told(random)])
    num_exchanges = random.choice((1, 1, 1, 2, 2, 3, 4, 6))
    return (random.choice(_THEMES)(random) for _ in range(num_exchanges))


def _turns(random: Random, exchanges: Iterator[Exchange]) -> Conversation:
    turns: list[Message] = []
    num_characters = 0
    for exchange in exchanges:
        num_characters += len(exchange.question) + len(exchange.answer)
        if turns and num_characters > MAX_CHARACTERS:
            break
        turns.append(Message("user", _as_typed(random, exchange.question)))
        turns.append(Message("assistant", exchange.answer))
    return tuple(turns)


def _as_typed(random: Random, question: str) -> str:
    """The question as a person may type it: lower case, without a mark, with a filler."""
    if random.random() < 0.18:
        question = question.lower()
    if random.random() < 0.18:
        question = question.rstrip(".?!") or question
    if random.random() < 0.06:
        question = random.choice(_POLITE_STARTS) + question[:1].lower() + question[1:]
    return question
