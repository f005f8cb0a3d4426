import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.inference.stop_sequences import StopFinder, StopMatch

texts = st.text(alphabet="ab\n", max_size=12)
stops = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3)


def run(pieces: list[str], stop: list[str], *, keeps_stop: bool) -> tuple[str, StopMatch | None]:
    finder = StopFinder(stop, keeps_stop=keeps_stop)
    return "".join(map(finder.feed, pieces)) + finder.finish(), finder.match


def search_whole(text: str, stop: list[str]) -> StopMatch | None:
    """The rule itself, on the whole text: first end, then longest."""
    for end in range(1, len(text) + 1):
        starts = [end - len(item) for item in stop if text[:end].endswith(item)]
        if starts:
            return StopMatch(min(starts), end)
    return None


@given(pieces=st.lists(texts, max_size=6), stop=stops, keeps_stop=st.booleans())
def test_any_split_gives_what_searching_the_whole_text_gives(
    pieces: list[str], stop: list[str], keeps_stop: bool
) -> None:
    """Output and match depend on the text, never on how it came."""
    whole = "".join(pieces)
    match = search_whole(whole, stop)
    end = len(whole) if match is None else match.end if keeps_stop else match.start

    assert run(pieces, stop, keeps_stop=keeps_stop) == (whole[:end], match)


@given(pieces=st.lists(texts, max_size=6), stop=stops)
def test_text_is_held_back_only_while_it_may_begin_a_stop_text(
    pieces: list[str], stop: list[str]
) -> None:
    """What is held back is the beginning of some stop text."""
    finder, fed, emitted = StopFinder(stop, keeps_stop=False), "", ""
    for piece in pieces:
        fed, emitted = fed + piece, emitted + finder.feed(piece)
        held = fed[len(emitted) :]
        assert finder.match is not None or not held or any(s.startswith(held) for s in stop)


def test_a_stop_text_is_found_across_pieces_and_cut() -> None:
    """The beginning of a stop text is never shown."""
    finder = StopFinder(["###"], keeps_stop=False)

    assert [finder.feed(piece) for piece in ("Hi #", "#", "# you")] == ["Hi ", "", ""]
    assert finder.match == StopMatch(3, 6)


def test_a_false_beginning_is_passed_on_with_the_next_text() -> None:
    """Held text comes out as soon as it cannot be a stop text any more."""
    finder = StopFinder(["###"], keeps_stop=False)

    assert [finder.feed(piece) for piece in ("a##", "b")] == ["a", "##b"]


def test_a_kept_stop_text_is_not_held_back() -> None:
    """When the stop text is part of the output, its beginning may be shown at once."""
    finder = StopFinder(["###"], keeps_stop=True)

    assert [finder.feed(piece) for piece in ("a##", "#b")] == ["a##", "#"]


@pytest.mark.parametrize("stop", [["abcd", "bc"], ["bc", "abcd"]])
def test_the_stop_text_that_ends_first_wins(stop: list[str]) -> None:
    """The order of the stop texts does not matter; an earlier beginning neither."""
    assert run(["abcd"], stop, keeps_stop=False) == ("a", StopMatch(1, 3))


def test_of_stop_texts_with_one_end_the_longest_is_cut() -> None:
    """Nothing of a stop text is left in front of a shorter one."""
    assert run(["x", "abc"], ["bc", "abc"], keeps_stop=False) == ("x", StopMatch(1, 4))


def test_an_empty_stop_text_never_matches() -> None:
    """It would end every generation before it begins."""
    assert run(["abc"], [""], keeps_stop=False) == ("abc", None)
