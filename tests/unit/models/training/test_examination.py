"""The check's questions, and how they are marked."""

from pathlib import Path

from models.training.check import mark
from models.training.documents import Message
from models.training.examination import Question, write_examination
from models.training.loaded_model import LoadedModel
from tests.unit.models.training.conftest import TinyTraining

GREETING = (Message("user", "Hello"),)


def test_every_subject_asks_and_every_question_ends_with_the_caller() -> None:
    """No subject is empty."""
    examination = write_examination()

    assert all(examination.values())
    assert {q.conversation[-1].role for qs in examination.values() for q in qs} == {"user"}


def test_right_answers_are_told_from_wrong_ones() -> None:
    """A sum needs its exact result; a story needs its hero, twice, and an end."""
    examination = write_examination()
    sum_question = examination["sums_to_twenty"][0]  # 0 + 1
    story_question = examination["stories_of_held_out_heroes"][0]
    *_, kind, _, name = story_question.conversation[0].content.rstrip(".").split()

    assert sum_question.is_right("0 + 1 = 1.")
    assert not sum_question.is_right("0 + 1 = 11.")
    assert story_question.is_right(f"A {kind} named {name} slept. {name} woke up.")
    assert not story_question.is_right(f"A {kind} named {name} slept.")
    assert not story_question.is_right(f"A {kind} named {name} met {name} and then")


def test_marks_count_what_was_right_and_show_what_was_wrong(tiny_training: TinyTraining) -> None:
    """Each answer is judged by its own question."""
    model = LoadedModel(tiny_training.directory)
    questions = [Question(GREETING, lambda _: True), Question(GREETING, lambda _: False)]

    marks = mark(model, questions)

    assert (marks["asked"], marks["right"]) == (2, 1)
    assert [wrong["question"] for wrong in marks["wrong_answers"]] == ["Hello"]


def test_answers_do_not_depend_on_who_else_is_asked(demo: Path) -> None:
    """Padding to the longest conversation changes no answer."""
    model = LoadedModel(demo)
    long = (Message("user", "Name three fruits, and tell me what the opposite of hot is."),)

    assert model.answer([GREETING, long])[0] == model.answer([GREETING])[0]
