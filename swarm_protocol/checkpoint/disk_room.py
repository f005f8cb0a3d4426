"""Room on disk for the next file of the hub: which stored files must go, and their going.

What is stored and how it is deleted is huggingface_hub's to know; which, is decided here.
"""

import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarm_protocol.errors import DiskFullError
from swarm_protocol.logs import get_logger

if TYPE_CHECKING:
    from huggingface_hub import CachedFileInfo, HFCacheInfo

log = get_logger(__name__)

RESERVED_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of the hub's local storage. `used_at` is a UTC time stamp."""

    path: Path
    size_bytes: int
    used_at: float


def choose_evictions(
    stored: Iterable[StoredFile], kept: Collection[Path], *, excess_bytes: int
) -> list[StoredFile]:
    """Return the files to delete so that `excess_bytes` become free, least recently used first.

    Raises:
        DiskFullError: all of them but those in `kept` are not enough.
    """
    chosen: list[StoredFile] = []
    freed_bytes = 0
    for file in sorted(stored, key=lambda file: (file.used_at, file.path)):
        if freed_bytes >= excess_bytes:
            break
        if file.path not in kept:
            chosen.append(file)
            freed_bytes += file.size_bytes
    if freed_bytes < excess_bytes:
        raise DiskFullError(missing_bytes=excess_bytes - freed_bytes)
    return chosen


def make_room(
    directory: Path, size_bytes: int, kept: Collection[Path], *, max_disk_bytes: int | None
) -> None:
    """Make sure that a file of `size_bytes` may be stored in `directory`.

    Without a limit nothing is deleted. With one, the stored models are kept under it, and besides
    `RESERVED_BYTES` stay free on the disk.

    Args:
        directory: huggingface_hub's local storage; need not exist yet.
        size_bytes: of the file to come.
        kept: files in snapshots that must stay.
        max_disk_bytes: what all stored models together may take.

    Raises:
        DiskFullError: there is not enough room, and no more may be deleted. Nothing was.
    """
    excess_bytes = size_bytes + RESERVED_BYTES - shutil.disk_usage(_existing(directory)).free
    if max_disk_bytes is None:
        choose_evictions((), kept, excess_bytes=excess_bytes)
        return
    storage = _scan(directory)
    if storage is None:
        choose_evictions((), kept, excess_bytes=max(excess_bytes, size_bytes - max_disk_bytes))
        return
    entries = _entries_by_blob(storage)
    stored = [_stored_file(blob, files) for blob, files in entries.items()]
    stored_bytes = sum(file.size_bytes for file in stored)
    excess_bytes = max(excess_bytes, stored_bytes + size_bytes - max_disk_bytes)
    kept_blobs = {
        blob for blob, files in entries.items() if any(f.file_path in kept for f in files)
    }
    chosen = choose_evictions(stored, kept_blobs, excess_bytes=excess_bytes)
    if chosen:
        storage.delete_files(*(file for blob in chosen for file in entries[blob.path])).execute()
        freed_bytes = sum(file.size_bytes for file in chosen)
        log.info("stored_files_evicted", num_files=len(chosen), freed_bytes=freed_bytes)


def _stored_file(blob: Path, files: "Sequence[CachedFileInfo]") -> StoredFile:
    return StoredFile(blob, files[0].size_on_disk, files[0].blob_last_accessed)


def _scan(directory: Path) -> "HFCacheInfo | None":
    # Imported here, as in hub.py.
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return scan_cache_dir(directory)
    except CacheNotFound:
        return None


def _entries_by_blob(storage: "HFCacheInfo") -> "dict[Path, Sequence[CachedFileInfo]]":
    """Return the models' files; revisions share the content of files that they have in common."""
    entries: dict[Path, list[CachedFileInfo]] = defaultdict(list)
    for repository in storage.repos:
        if repository.repo_type == "model":
            for revision in repository.revisions:
                for file in revision.files:
                    entries[file.blob_path].append(file)
    return dict(entries)


def _existing(directory: Path) -> Path:
    return next(path for path in (directory, *directory.parents) if path.exists())
