"""Figures of how fast answers were."""

from swarmgate.answer_times import AnswerTimes, figures_of


def test_tokens_are_counted_over_all_answers_and_times_per_caller() -> None:
    """The first token is not one of those that are waited for between others."""
    answers = [AnswerTimes(0.1, 1.1, 11), AnswerTimes(0.3, 2.3, 11)]

    assert figures_of(answers, wall_s=2.5) == {
        "answers": 2,
        "tokens": 22,
        "wall_s": 2.5,
        "tokens_per_s": 8.8,
        "first_token_ms": {"p50": 100.0, "p99": 300.0},
        "per_token_ms": {"p50": 100.0, "p99": 200.0},
    }


def test_the_worst_of_two_hundred_is_left_out_and_the_third_is_not() -> None:
    """99 of 100 is two of two hundred."""
    answers = [AnswerTimes(number / 1000, 1, 1) for number in range(1, 201)]

    assert figures_of(answers, wall_s=1)["first_token_ms"] == {"p50": 100.0, "p99": 198.0}


def test_answers_of_one_token_have_no_time_between_tokens() -> None:
    """Rather than a wrong one."""
    assert figures_of([AnswerTimes(0.1, 0.1, 1)], wall_s=1)["per_token_ms"] is None
