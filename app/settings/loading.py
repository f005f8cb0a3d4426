"""Reads the settings from the environment, and says what is wrong with them."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from app.settings.gateway import ENV_PREFIX, Settings
from swarm_protocol.errors import SwarmError


class SettingsError(SwarmError):
    """The settings do not fit; the message has one sentence per problem."""

    code = "bad_settings"


def load_settings(environ: Mapping[str, str] = os.environ, **given: Any) -> Settings:
    """Return the settings: what is `given`, then the environment, then the defaults.

    Args:
        environ: looked at for names that are no setting; the values are read from the process.
        given: as parsed from a command line; `Any`, because they are checked here.

    Raises:
        SettingsError: a value does not fit, or a `SWARMGATE_…` name is none of ours.
    """
    unknown = unknown_names(environ)
    if unknown:
        raise SettingsError(f"unknown settings: {', '.join(unknown)}")
    try:
        return Settings(**given)
    except (ValidationError, ValueError) as error:
        raise SettingsError(_sentences(error)) from error


def unknown_names(names: Iterable[str]) -> list[str]:
    """Return those that begin with `SWARMGATE_` and are no setting."""
    known = set(Settings.model_fields)
    prefix = ENV_PREFIX.lower()
    return sorted(
        name
        for name in names
        if name.lower().startswith(prefix)
        and name.lower().removeprefix(prefix).partition("__")[0] not in known
    )


def _sentences(error: Exception) -> str:
    """Name each setting with what was expected. Values stay out: one may be a secret."""
    if not isinstance(error, ValidationError):
        return str(error)
    parts = []
    for problem in error.errors(include_url=False, include_input=False):
        place = "__".join(str(step) for step in problem["loc"] if isinstance(step, str))
        name = f"{ENV_PREFIX}{place.upper()}: " if place else ""
        parts.append(f"{name}{problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)
