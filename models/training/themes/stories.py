"""Small stories: a hero, a friend, an object, and one of a few plots told in many ways."""

from dataclasses import dataclass
from random import Random

from models.training.documents import Exchange
from models.training.grammar import capitalized, with_article
from models.training.phrase_book import read_dialogues, read_entry, read_keys, read_texts
from models.training.themes.people import ADJECTIVES, Character, draw_character, draw_kind

OBJECTS = read_texts("stories", "objects")
_MAKEABLE_OBJECTS = read_texts("stories", "makeable_objects")
_MAKING = "something is made"  # the plot whose object must be makeable
_PLOTS = {
    plot: tuple(tuple(step) for step in read_entry("stories", "plots", plot))
    for plot in read_keys("stories", "plots")
}
_OPENINGS = read_texts("stories", "openings")
_ENDINGS = read_texts("stories", "endings")
_REQUESTS = read_texts("stories", "requests")
_KINDS_OF_STORY = read_texts("stories", "kinds_of_story")
_SCENERY = {
    "place": read_texts("stories", "places"),
    "spot": read_texts("stories", "spots"),
    "weather": read_texts("stories", "weather"),
    "food": read_texts("stories", "foods"),
    "day": read_texts("stories", "days"),
}
_CONTINUATIONS = read_dialogues("small_talk", "continuations")


@dataclass(frozen=True, slots=True)
class StoryWish:
    """What a caller wants the story to be about; what is None is up to the writer."""

    hero: Character | None = None
    adjective: str | None = None
    friend_kind: str | None = None
    object_name: str | None = None


def write_story(random: Random, wish: StoryWish | None = None) -> str:
    """A story of about ten sentences that keeps to the wish, or about anyone."""
    wish = wish or StoryWish()
    plot = random.choice(tuple(_PLOTS))
    words = _draw_words(random, wish, _MAKEABLE_OBJECTS if plot == _MAKING else OBJECTS)
    steps = (_OPENINGS, *_PLOTS[plot], _ENDINGS)
    return " ".join(random.choice(step).format_map(words) for step in steps)


def _draw_words(random: Random, wish: StoryWish, objects: tuple[str, ...]) -> dict[str, str]:
    hero = wish.hero or draw_character(random)
    friend = draw_character(random, kind=wish.friend_kind, unlike=hero)
    object_name = wish.object_name or random.choice(objects)
    adjective = wish.adjective or random.choice(ADJECTIVES)
    he, his, _ = hero.pronouns
    friend_he, _, friend_him = friend.pronouns
    a_friend = with_article(friend.kind)
    return {
        "name": hero.name,
        "a_hero": with_article(f"{adjective} {hero.kind}"),
        "he": he,
        "his": his,
        "He": capitalized(he),
        "His": capitalized(his),
        "friend": friend.name,
        "friend_kind": friend.kind,
        "a_friend": a_friend,
        "A_friend": capitalized(a_friend),
        "friend_he": friend_he,
        "friend_him": friend_him,
        "object": object_name,
        "an_object": with_article(object_name),
        **{word: random.choice(choices) for word, choices in _SCENERY.items()},
    }


def _draw_wish(random: Random) -> tuple[StoryWish, str]:
    """A wish, and the words that ask for it after "a story"."""
    hero = draw_character(random)
    a_hero = with_article(hero.kind)
    match random.choice(("anyone", "kind", "kind", "quality", "name", "name", "object", "friend")):
        case "kind":
            about = random.choice((f" about {a_hero}", f" about the {hero.kind}"))
            return StoryWish(hero), about
        case "quality":
            adjective = random.choice(ADJECTIVES)
            about = f" about {with_article(f'{adjective} {hero.kind}')}"
            return StoryWish(hero, adjective=adjective), about
        case "name":
            about = f" about {a_hero} {random.choice(('named', 'called'))} {hero.name}"
            return StoryWish(hero), about
        case "object":
            object_name = random.choice(OBJECTS)
            about = f" about {a_hero} and {with_article(object_name)}"
            return StoryWish(hero, object_name=object_name), about
        case "friend":
            kind = draw_kind(random)
            return StoryWish(hero, friend_kind=kind), f" about {a_hero} and {with_article(kind)}"
        case _:
            return StoryWish(), ""


def ask_for_story(random: Random) -> Exchange:
    """A request for a story, with or without wishes, and a story that keeps to them."""
    wish, about = _draw_wish(random)
    story = random.choice(_KINDS_OF_STORY) + about
    return Exchange(random.choice(_REQUESTS).format(story=story), write_story(random, wish))


def ask_to_go_on(random: Random) -> Exchange:
    """A bare "yes" or "go on"; the model tells a story."""
    dialogue = random.choice(_CONTINUATIONS)
    answer = random.choice(dialogue.answers).format(story=write_story(random))
    return Exchange(random.choice(dialogue.questions), answer)
