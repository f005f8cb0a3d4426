"""How gaps are counted."""

from tests.harness.churn_gaps import Generation, longest_gap_s, quantile

USUAL = Generation((1, 2, 3, 4), (0.5, 0.02, 0.01, 0.01))


def test_a_gap_is_what_a_token_takes_beyond_what_it_usually_takes() -> None:
    """The usual step is the median one: a single slow step in the undisturbed run hides nothing."""
    made = Generation((1, 2, 3, 4), (0.5, 0.01, 0.31, 0.11))

    assert round(longest_gap_s(made, USUAL), 6) == 0.3


def test_the_prefill_is_compared_with_the_prefill() -> None:
    """The first token takes longer than others without any loss."""
    made = Generation((1, 2, 3, 4), (0.9, 0.01, 0.01, 0.01))

    assert round(longest_gap_s(made, USUAL), 6) == 0.4


def test_a_generation_that_made_nothing_has_no_gap() -> None:
    """It has an error."""
    assert longest_gap_s(Generation((), ()), USUAL) == 0


def test_a_quantile_is_one_of_the_values() -> None:
    """Half of them are not above p50; p99 of few values is the largest."""
    values = [4.0, 1.0, 3.0, 2.0]

    assert quantile(values, 0.5) == 2
    assert quantile(values, 0.99) == 4
    assert quantile([7.0], 0.01) == 7
