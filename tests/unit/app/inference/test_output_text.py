from app.inference.detokenizer import Detokenizer
from app.inference.output_text import Cut, OutputText
from app.inference.stop_sequences import StopFinder

WORDS = ["Hello", " wor", "ld", "\n\nHu", "man:", " \ufffd", "###"]


def output_of(ids: list[int], stop: str) -> tuple[list[str], OutputText]:
    """Each id is a whole word, but for one that is half a character."""
    detokenizer = Detokenizer(lambda ids: "".join(WORDS[i] for i in ids))
    output = OutputText(detokenizer, StopFinder([stop], keeps_stop=False))
    return [output.push(i) for i in ids], output


def test_tokens_wholly_before_the_end_of_the_stop_text_stay() -> None:
    """The rest of the stop text is what the last token says of it."""
    texts, output = output_of([0, 1, 2, 3], "\n\n")

    assert texts == ["Hello", " wor", "ld", ""]
    assert output.is_stopped
    assert output.cut() == Cut(num_tokens=3, rest="\n\n")


def test_nothing_is_left_over_when_a_token_ends_with_the_stop_text() -> None:
    """All tokens stay."""
    _, output = output_of([0, 3, 4], "\n\nHuman:")

    assert output.cut() == Cut(num_tokens=3, rest="")


def test_a_token_that_holds_the_whole_stop_text_and_more_is_cut() -> None:
    """Even when it is the first."""
    _, output = output_of([0], "ell")

    assert output.cut() == Cut(num_tokens=0, rest="Hell")


def test_tokens_of_half_a_character_are_no_place_to_cut() -> None:
    """Their text is known only with the token that completes it."""
    _, output = output_of([0, 5, 6], " ")

    assert output.cut() == Cut(num_tokens=1, rest=" ")


def test_held_back_text_comes_at_the_end() -> None:
    """An end of tokens decides what could have become a stop text or a character."""
    texts, output = output_of([0, 5], "\ufffd!")

    assert [*texts, output.finish()] == ["Hello", "", " \ufffd"]
    assert not output.is_stopped
