"""Files of a hub repository: fetched one by one when wanted, all from one commit.

huggingface_hub does the fetching: it resumes broken transfers, keeps what is complete, and draws
progress bars on terminals. Must not know what is in the files.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from swarm_protocol.checkpoint.disk_room import make_room
from swarm_protocol.checkpoint.hub_faults import describe, describe_offline, may_pass
from swarm_protocol.checkpoint.retries import Retries
from swarm_protocol.errors import CheckpointError, SwarmError

# huggingface_hub is imported in functions: it takes a third of a second, and most runs read a
# directory.


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Where the hub is, where its files are kept, and how much of the disk they may take.

    Args:
        endpoint: URL of the hub; None: `HF_ENDPOINT`, or the public one.
        directory: local storage; None: `HF_HUB_CACHE`, or huggingface_hub's default.
        max_disk_bytes: what all stored models together may take. Those used least recently are
            deleted to make room, but never what this process uses. None: nothing is ever deleted.
        retries: for what fails on the way.
    """

    endpoint: str | None = None
    directory: Path | None = None
    max_disk_bytes: int | None = None
    retries: Retries = field(default_factory=Retries)


class HubUse:
    """What this process uses of hubs: a commit per branch, and files that must stay.

    Threads may share it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # held while room is made and a file fetched
        self.kept: set[Path] = set()
        self._commits: dict[tuple[str | None, str, str | None], str] = {}

    def commit_of(
        self,
        endpoint: str | None,
        repository: str,
        revision: str | None,
        resolve: Callable[[], str],
    ) -> str:
        """Return the commit that the revision stood for when it was first asked for."""
        key = (endpoint, repository, revision)
        with self.lock:
            if key not in self._commits:
                self._commits[key] = resolve()
            return self._commits[key]


@cache
def use_of_process() -> HubUse:
    """Return the one of this process: two models of one branch must be of one commit."""
    return HubUse()


class HubFiles:
    """Files of one commit of a repository."""

    def __init__(self, repository: str, commit: str, settings: HubSettings, use: HubUse) -> None:
        from huggingface_hub import constants

        self._repository = repository
        self._commit = commit
        self._settings = settings
        self._use = use
        self._directory = Path(settings.directory or constants.HF_HUB_CACHE).expanduser().resolve()

    @classmethod
    def open(cls, repository: str, revision: str | None, settings: HubSettings) -> "HubFiles":
        """Settle the commit. A branch is looked up once per process; without network, on disk.

        Raises:
            CheckpointError: there is no such repository or revision, or the hub does not answer
                and the revision is not stored here.
        """
        from huggingface_hub import HfApi, is_offline_mode

        def resolve() -> str:
            found = HfApi(endpoint=settings.endpoint).resolve_revision(
                repository,
                revision=revision,
                cache_dir=settings.directory,
                local_files_only=is_offline_mode(),
            )
            return found.resolved

        use = use_of_process()
        try:
            commit = use.commit_of(
                settings.endpoint,
                repository,
                revision,
                lambda: settings.retries.run(resolve, may_pass=may_pass),
            )
        except Exception as error:  # of the HTTP library or of huggingface_hub: a foreign edge
            raise CheckpointError(describe(repository, revision, None, error)) from error
        return cls(repository, commit, settings, use)

    def path(self, name: str) -> Path | None:
        """See `ModelFiles.path`. Other threads wait while one fetches."""
        from huggingface_hub import is_offline_mode, try_to_load_from_cache

        with self._use.lock:
            stored = try_to_load_from_cache(
                self._repository, name, cache_dir=self._directory, revision=self._commit
            )
            if isinstance(stored, str):
                return self._keep(Path(stored))
            if stored is not None:
                return None  # the hub has said that there is no such file in this commit
            if is_offline_mode():
                self._check_dispensable(name)
                return None
            return self._fetch(name)

    def _check_dispensable(self, name: str) -> None:
        """Raise for a file without which there is no model."""
        if name == "config.json" or name.endswith(".safetensors"):
            raise CheckpointError(describe_offline(f"{name} of {self._repository!r}"))

    def _fetch(self, name: str) -> Path | None:
        from huggingface_hub.errors import RemoteEntryNotFoundError

        try:
            path = self._settings.retries.run(lambda: self._attempt(name), may_pass=may_pass)
        except RemoteEntryNotFoundError:
            return None
        except SwarmError:
            raise
        except Exception as error:  # of the HTTP library or of huggingface_hub: a foreign edge
            raise CheckpointError(describe(self._repository, self._commit, name, error)) from error
        return self._keep(path)

    def _attempt(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        settings = self._settings
        planned = hf_hub_download(
            self._repository,
            name,
            revision=self._commit,
            cache_dir=self._directory,
            endpoint=settings.endpoint,
            dry_run=True,
        )
        if planned.will_download:
            make_room(
                self._directory,
                planned.file_size or 0,
                self._use.kept,
                max_disk_bytes=settings.max_disk_bytes,
            )
        return Path(
            hf_hub_download(
                self._repository,
                name,
                revision=self._commit,
                cache_dir=self._directory,
                endpoint=settings.endpoint,
            )
        )

    def _keep(self, path: Path) -> Path:
        """Note that the file is in use, also for the eviction of other processes."""
        self._use.kept.add(path)
        with suppress(OSError):  # where we may read and not write
            os.utime(path, (time.time(), path.stat().st_mtime))  # many disks do not note reading
        return path
