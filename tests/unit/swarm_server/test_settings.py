"""Settings of a block server."""

import pytest
from pydantic import ValidationError

from swarm_server.settings import ServerSettings


@pytest.mark.parametrize(
    "fields",
    [
        {"model": ""},
        {"blocks": "0-2"},
        {"blocks": "0:2", "num_blocks": 2},
        {"num_blocks": 0},
        {"kv_tokens": 0},
        {"step_timeout_s": 0},
        {"drain_s": -1},
        {"unknown": 1},
    ],
)
def test_values_out_of_bounds_are_refused(fields: dict[str, object]) -> None:
    """Each field has a bound; unknown ones are errors."""
    with pytest.raises(ValidationError):
        ServerSettings.model_validate({"model": "m"} | fields)


def test_every_field_says_what_it_is() -> None:
    """The reference of settings is generated from the descriptions."""
    fields = ServerSettings.model_fields.values()

    assert all(field.description for field in fields)
