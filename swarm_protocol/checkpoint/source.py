"""Where a model's files are: a directory, or a hub repository of which only the wanted ones are
fetched.
"""

from pathlib import Path
from typing import Protocol

from swarm_protocol.checkpoint.hub import HubFiles, HubSettings
from swarm_protocol.errors import CheckpointError


class ModelFiles(Protocol):
    """Access to the files of one model."""

    def path(self, name: str) -> Path | None:
        """Return a local path of the file, fetching it if need be; None if there is none.

        Raises:
            CheckpointError: the file cannot be fetched.
        """


class DirectoryFiles:
    """Files of a local directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, name: str) -> Path | None:
        path = self._directory / name
        return path if path.is_file() else None


def open_files(source: str, revision: str | None, hub: HubSettings) -> ModelFiles:
    """Return access to the files of `source`.

    Raises:
        CheckpointError: it looks like a path and is no directory, or the hub does not have it.
    """
    path = Path(source)
    if path.is_dir():
        return DirectoryFiles(path)
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") != 1
    if looks_like_path or (path.parent.is_dir() and path.parent != Path()):
        raise CheckpointError(f"there is no directory {source!r}")
    return HubFiles.open(source, revision, hub)
