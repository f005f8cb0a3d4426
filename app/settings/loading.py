"""Reads the settings from the environment, and says everything that is wrong with them at once."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from pydantic import ValidationError, model_validator

from app.settings.checks import problems_of
from app.settings.gateway import ENV_PREFIX, Settings
from app.validation import sentence_of
from swarm_protocol.errors import SwarmError


class SettingsError(SwarmError):
    """The settings do not fit; `problems` has a sentence each, and the message has all of them."""

    code = "bad_settings"

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        is_one = len(self.problems) == 1
        heading = () if is_one else (f"{len(self.problems)} settings do not fit:",)
        super().__init__("\n  ".join((*heading, *self.problems)))


def load_settings(
    environ: Mapping[str, str] = os.environ, *, find_model: Callable[[str], str] = str, **given: Any
) -> Settings:
    """Return the settings: what is `given`, then the environment, then the defaults.

    Args:
        environ: looked at for names that are no setting; the values are read from the process.
        find_model: says where a model is; what it returns is checked with the other settings.
        given: as parsed from a command line; `Any`, because they are checked here.

    Raises:
        SettingsError: values do not fit, alone or together, or names are none of ours.
        SwarmError: from `find_model`.
    """
    problems = [f"{name} is no setting of this gateway" for name in unknown_names(environ)]
    try:
        settings = _read(given)
    except ValidationError as error:
        wrong = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
        problems += _sentences(error)
        problems += _problems_besides(given, wrong)
    except ValueError as error:  # pydantic's word for a text that should be JSON
        problems.append(f"{_name_in(str(error))}: expected an object as JSON")
    else:
        given["models"] = tuple(map(find_model, settings.models))
        problems += problems_of(settings.model_copy(update={"models": given["models"]}))
    if problems:
        raise SettingsError(problems)
    return Settings(**given)


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


class _Unchecked(Settings):
    """Settings each of which fits by itself."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        return self


def _read(given: Mapping[str, Any]) -> Settings:
    return _Unchecked(**given)


def _problems_besides(given: Mapping[str, Any], wrong: set[str]) -> list[str]:
    """Return what is wrong with the others together, with defaults in place of wrong ones."""
    fields = Settings.model_fields
    defaults = {name: fields[name].get_default() for name in wrong if name in fields}
    try:
        return problems_of(_read({**given, **defaults}), wrong=wrong)
    except ValueError:  # a name that is no field: it has its sentence already
        return []


def _name_in(message: str) -> str:
    """Return the setting that pydantic's message names."""
    found = re.search(r'field "(\w+)"', message)
    return f"{ENV_PREFIX}{found[1].upper()}" if found else "a setting"


def _sentences(error: ValidationError) -> list[str]:
    """Name each setting with what was expected. Values stay out: one may be a secret."""
    sentences = []
    for problem in error.errors(include_url=False, include_input=False):
        place = "__".join(str(step) for step in problem["loc"] if isinstance(step, str))
        name = f"{ENV_PREFIX}{place.upper()}" if place else ""
        if problem["type"] == "extra_forbidden":
            sentences.append(f"{name} is no setting of this gateway")
            continue
        said = sentence_of(problem)
        sentences.append(f"{name}: {said}" if name else said)
    return sentences
