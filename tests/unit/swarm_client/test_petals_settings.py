"""Petals' names for our settings."""

from typing import Any

import pytest
from pydantic import ValidationError

from swarm_client.petals_settings import routing_settings
from swarm_client.settings import RoutingSettings


def test_what_petals_names_say_goes_before_the_settings_given() -> None:
    """The rest stays as it was."""
    given = RoutingSettings(max_retries=7, ban_s=3)

    settings = routing_settings(
        given, ban_timeout=9, request_timeout=11.0, blocked_servers=["Qm1"], allowed_servers=None
    )

    changes = {"ban_s": 9, "request_timeout_s": 11.0, "blocked_servers": ("Qm1",)}
    assert settings == given.model_copy(update=changes)


def test_without_either_there_are_the_defaults() -> None:
    """Notebooks say nothing about routing."""
    assert routing_settings(None) == RoutingSettings()


@pytest.mark.parametrize(("show_route", "expected"), [("inference", True), (False, False)])
def test_petals_way_to_ask_for_routes_in_words(show_route: bool | str, expected: bool) -> None:
    """It knows a name for "those of sessions", which are all that we show."""
    assert routing_settings(None, show_route=show_route).show_route is expected


def test_a_name_that_nobody_knows_is_refused() -> None:
    """As Python refuses it for functions with fewer names."""
    options: dict[str, Any] = {"max_retires": 3}

    with pytest.raises(TypeError, match="'max_retires'"):
        routing_settings(None, **options)


def test_a_value_out_of_range_is_refused() -> None:
    """By the rules of the settings."""
    with pytest.raises(ValidationError, match="request_timeout_s"):
        routing_settings(None, request_timeout=-1.0)
