"""Where a model's files are: a directory, or a hub repository of which only the wanted ones are
fetched.
"""

from pathlib import Path
from typing import Protocol

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


class HubFiles:
    """Files of a hub repository, in huggingface_hub's own local storage."""

    def __init__(self, repository: str, revision: str | None) -> None:
        self._repository = repository
        self._revision = revision

    def path(self, name: str) -> Path | None:
        # Imported here: it takes a third of a second, and most runs read a directory.
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

        try:
            return Path(hf_hub_download(self._repository, name, revision=self._revision))
        except EntryNotFoundError:
            return None
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{self._repository!r} is neither a directory here nor a repository whose {name} "
                f"can be fetched"
            ) from error


def open_files(source: str, revision: str | None = None) -> ModelFiles:
    """Return access to the files of `source`.

    Raises:
        CheckpointError: it looks like a path and is no directory.
    """
    path = Path(source)
    if path.is_dir():
        return DirectoryFiles(path)
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") != 1
    if looks_like_path or (path.parent.is_dir() and path.parent != Path()):
        raise CheckpointError(f"there is no directory {source!r} with a model")
    return HubFiles(source, revision)
