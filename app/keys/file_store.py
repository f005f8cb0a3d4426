"""Keys in a file: JSON that its owner alone may read, replaced as a whole."""

# ruff: noqa: D102 - the methods are described once, in their Protocol

import asyncio
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from app.keys.errors import KeysUnreadableError
from app.keys.records import KeyRecord

_Records = TypeAdapter(tuple[KeyRecord, ...])


class FileKeyStore:
    """`KeyStore` in a file, which appears with the first key.

    Several processes may use one file: a lock file beside it lets one write at a time, and readers
    see the old contents or the new ones. Every method may raise `KeysUnreadableError`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def find(self, key_id: str) -> KeyRecord | None:
        records = await asyncio.to_thread(self._read)
        return next((record for record in records if record.id == key_id), None)

    async def find_all(self) -> Sequence[KeyRecord]:
        return await asyncio.to_thread(self._read)

    async def replace(self, old: KeyRecord | None, new: KeyRecord) -> bool:
        return await asyncio.to_thread(self._replace, old, new)

    async def close(self) -> None:
        """Do nothing: the file is open only while it is used."""

    def _replace(self, old: KeyRecord | None, new: KeyRecord) -> bool:
        try:
            with self._locked():
                records = {record.id: record for record in self._read()}
                if _version(records.get(new.id)) != _version(old):
                    return False
                self._write([*{**records, new.id: new}.values()])
                return True
        except OSError as error:
            raise KeysUnreadableError(self._path, error.strerror or "no access") from error

    def _read(self) -> tuple[KeyRecord, ...]:
        try:
            return _Records.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeysUnreadableError(self._path, error.strerror or "no access") from error
        except ValidationError as error:
            raise KeysUnreadableError(self._path, "it is no list of keys") from error

    def _write(self, records: Sequence[KeyRecord]) -> None:
        """Replace the file such that a crash leaves the old one or the new one."""
        directory = self._path.parent
        handle, name = tempfile.mkstemp(dir=directory, prefix=f".{self._path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_Records.dump_json(tuple(records), indent=2))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_directory(directory)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_name(f".{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _version(record: KeyRecord | None) -> int:
    return 0 if record is None else record.version


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
