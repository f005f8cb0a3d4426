"""Which of our paths a caller may have meant: base URLs lack `/v1`, or have it twice."""

import re
from typing import Final

from app.api.openapi.operations import OPERATIONS

_PREFIXES: Final = re.compile(r"(?:/v1)*(?=/)")
_PATHS: Final = frozenset(each.path for each in OPERATIONS if each.path.startswith("/v1/"))


def meant_path(path: str) -> str | None:
    """Return the path of ours with `/v1` in front of it once; None if there is none."""
    likely = _PREFIXES.sub("/v1", path, count=1)
    return likely if likely in _PATHS else None
