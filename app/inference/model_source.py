"""Where a model comes from, as an operator writes it down."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_protocol.errors import CheckpointError

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A directory, or a repository of the hub; `revision` is a branch, tag or commit of it.

    Only a commit pins what is loaded: branches move, and tags can be moved.
    """

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelSource":
        """Read `DIRECTORY`, `organization/name` or `organization/name@revision`.

        Raises:
            CheckpointError: a directory has a revision.
        """
        if Path(text).is_dir():
            return cls(text)
        name, _, revision = text.partition("@")
        if revision and Path(name).is_dir():
            raise CheckpointError(f"{name!r} is a directory, which has no revision {revision!r}")
        return cls(name, revision or None)

    @property
    def is_pinned(self) -> bool:
        """Whether it will be the same model at every start, as far as this machine can tell."""
        return bool(_COMMIT.fullmatch(self.revision or "")) or Path(self.name).is_dir()

    @property
    def id(self) -> str:
        """The name callers use: a directory's last part, or the hub repository."""
        path = Path(self.name)
        return path.resolve().name if path.is_dir() else self.name
