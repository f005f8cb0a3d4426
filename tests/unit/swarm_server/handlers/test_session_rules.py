"""What a session may do next."""

import pytest

from swarm_protocol.metadata import InferenceMetadata
from swarm_server.errors import (
    InvalidPositionError,
    InvalidStepError,
    MaxLengthExceededError,
    NotServedError,
)
from swarm_server.handlers.session_rules import SessionRules


def make_rules() -> SessionRules:
    return SessionRules("m.0 m.1", batch_size=2, max_length=8)


def test_a_repeated_step_id_is_known() -> None:
    """Each id counts once; steps without an id always count."""
    rules = make_rules()

    seen = [rules.is_repeated(step_id) for step_id in ("a", "b", "a", None, None)]

    assert seen == [False, False, True, False, False]


def test_old_step_ids_are_forgotten() -> None:
    """A session may go on for ever without growing."""
    rules = make_rules()
    for number in range(1025):
        rules.is_repeated(str(number))

    assert rules.is_repeated("1024")
    assert not rules.is_repeated("0")


def test_the_chain_is_fixed_by_the_first_message() -> None:
    """Later messages name the same chain or none."""
    rules = make_rules()
    rules.check_uid("m.0 m.1")
    rules.check_uid("")

    with pytest.raises(NotServedError, match=r"does not serve m\.0"):
        rules.check_uid("m.0")


@pytest.mark.parametrize(("wanted", "expected"), [(None, 5), (5, 5), (0, 0), (3, 3)])
def test_a_step_begins_at_the_position_or_before(wanted: int | None, expected: int) -> None:
    """`start_from_position` rolls back."""
    metadata = InferenceMetadata(start_from_position=wanted)

    assert make_rules().starting_position(metadata, 5) == expected


@pytest.mark.parametrize("wanted", [-1, 6, 1 << 70])
def test_a_position_that_has_not_been_is_refused(wanted: int) -> None:
    """Negative, or beyond the prefix."""
    with pytest.raises(InvalidPositionError, match=r"must be in 0\.\.5"):
        make_rules().starting_position(InferenceMetadata(start_from_position=wanted), 5)


def test_the_reserved_length_holds_to_the_last_token() -> None:
    """One more is refused, in the words clients look for."""
    rules = make_rules()
    rules.check_step(2, 3, 5)

    message = "Maximum length exceeded: prefix 5 \\+ current 4 exceeds pre-allocated maximum 8"
    with pytest.raises(MaxLengthExceededError, match=message):
        rules.check_step(2, 4, 5)


def test_the_number_of_rows_is_fixed() -> None:
    """By the first step."""
    with pytest.raises(InvalidStepError, match="must have 2 rows as in the first step, got 1"):
        make_rules().check_step(1, 1, 0)
