"""Petals' names for what says how servers are found and given up on, as keyword arguments."""

from collections.abc import Sequence
from typing import Final, TypedDict, Unpack

from swarm_client.settings import RoutingSettings


class PetalsSettings(TypedDict, total=False):
    """PETALS_PROTOCOL §6.1. Durations are in seconds; what is left out stays as it was."""

    allowed_servers: Sequence[str] | None
    blocked_servers: Sequence[str] | None
    ban_timeout: float
    connect_timeout: float
    max_pinged: int
    max_retries: int
    ping_timeout: float
    request_timeout: float
    show_route: bool | str
    update_period: float


_FIELDS: Final = {
    "allowed_servers": "allowed_servers",
    "blocked_servers": "blocked_servers",
    "ban_timeout": "ban_s",
    "connect_timeout": "connect_timeout_s",
    "max_pinged": "max_pinged",
    "max_retries": "max_retries",
    "ping_timeout": "ping_timeout_s",
    "request_timeout": "request_timeout_s",
    "show_route": "show_route",
    "update_period": "update_period_s",
}


def routing_settings(
    routing: RoutingSettings | None, **petals: Unpack[PetalsSettings]
) -> RoutingSettings:
    """Return `routing`, or the defaults, with what `petals` says in place of the same fields.

    Raises:
        TypeError: a name is not known.
        ValueError: a value is out of range.
    """
    unknown = petals.keys() - _FIELDS.keys()
    if unknown:
        raise TypeError(f"unknown option {min(unknown)!r}")
    given = {_FIELDS[name]: value for name, value in petals.items()}
    if "show_route" in given:  # Petals' default is "inference": the same
        given["show_route"] = bool(given["show_route"])
    fields = (routing or RoutingSettings()).model_dump() | given
    return RoutingSettings.model_validate(fields)
