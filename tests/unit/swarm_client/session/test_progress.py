"""What a session's messages say, given how far it is."""

import pytest

from swarm_client.errors import MaxLengthExceededError
from swarm_client.session.progress import Progress


def progress_at(position: int) -> Progress:
    progress = Progress(max_length=10, session_id="s")
    progress.chunk_finished(position)
    progress.step_finished(batch_size=1)
    return progress


def test_the_first_message_says_more_than_later_ones() -> None:
    """The length is fixed once; the structure stays the same for the whole session."""
    progress = Progress(max_length=10, session_id="s")

    first = progress.metadata("one")
    progress.chunk_finished(3)
    second = progress.metadata("two")

    assert (first.session_id, first.step_id, first.max_length) == ("s", "one", 10)
    assert (second.session_id, second.step_id, second.max_length) == ("s", "two", None)
    assert first.args_structure == second.args_structure is not None


def test_tokens_over_the_length_are_refused_in_petals_words() -> None:
    """Pages of the old API look for this text."""
    progress = progress_at(8)
    progress.check_room(2)

    with pytest.raises(MaxLengthExceededError) as refused:
        progress.check_room(3)

    assert str(refused.value) == (
        "Maximum length exceeded: prefix 8 + current 3 exceeds pre-allocated maximum 10"
    )


def test_a_rollback_is_told_with_the_next_message_only() -> None:
    """Servers that know no rollback never see the key."""
    progress = progress_at(8)
    assert progress.metadata("before").start_from_position is None

    progress.roll_back(6)
    progress.roll_back(5)

    assert progress.position == 5
    assert progress.metadata("next").start_from_position == 5
    progress.chunk_finished(1)
    assert progress.metadata("after").start_from_position is None


def test_a_rollback_to_where_the_session_is_changes_nothing() -> None:
    """So it asks nothing of the servers."""
    progress = progress_at(8)

    progress.roll_back(8)

    assert progress.metadata("next").start_from_position is None


@pytest.mark.parametrize("position", [-1, 9])
def test_a_rollback_beyond_what_was_run_is_refused(position: int) -> None:
    """Stock servers would compute on zeros."""
    with pytest.raises(ValueError, match=r"0\.\.8"):
        progress_at(8).roll_back(position)


def test_a_restart_announces_everything_again() -> None:
    """New streams know nothing of the old ones."""
    progress = Progress(max_length=10, session_id="s")
    progress.chunk_finished(3)

    progress.restart("other")

    assert progress.position == 0
    assert progress.metadata("one").max_length == 10
    assert progress.metadata("one").session_id == "other"
