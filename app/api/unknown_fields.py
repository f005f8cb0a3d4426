"""Fields of a body that its dialect does not know.

Those that would change the answer and are not offered are refused; all others are ignored, and
named in the answer's `x-swarmgate-ignored` header.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from app.errors import UnsupportedFieldError

_MAX_NAMED: Final = 20
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

HarmlessValues: TypeAlias = Mapping[str, tuple[object, ...]]
"""Of a field that would change the answer: the values with which it does not."""


def ignore_fields(fields: Mapping[str, object] | None, unsupported: HarmlessValues) -> str:
    """Return the names of fields that had no effect, fit for a header.

    Args:
        fields: that the dialect does not know.
        unsupported: those that may not be ignored.

    Raises:
        UnsupportedFieldError: one would have changed the answer; names the first of them.
    """
    fields = fields or {}
    for name, value in fields.items():
        harmless = unsupported.get(name)
        if harmless is not None and value is not None and value not in harmless:
            raise UnsupportedFieldError(f"{name} is not supported by this gateway", name)
    return name_fields(name for name in fields if name not in unsupported)


def ignored_header(names: str) -> dict[str, str]:
    """Return the header that names fields without effect; none where there are none."""
    return {"x-swarmgate-ignored": names} if names else {}


def add_names(names: str, more: Iterable[str]) -> str:
    """Return names for a header with some more of them."""
    return ", ".join(each for each in (names, name_fields(more)) if each)


def name_fields(names: Iterable[str]) -> str:
    """Return names for a header: what could break it is left out, and so are very many."""
    return ", ".join([name for name in sorted(names) if _SAFE_NAME.fullmatch(name)][:_MAX_NAMED])
