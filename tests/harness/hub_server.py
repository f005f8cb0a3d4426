"""A model hub on loopback: the endpoints that huggingface_hub asks for files, and faults on order.

Repositories are directories whose files are copied when they are published. Counts what it sends.
"""

import hashlib
import json
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

_CHUNK: Final = 64 * 1024


@dataclass
class Repository:
    """Commits by id, each with its files by name, and the branches that point at them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


class HubServer:
    """A running hub; leaving its `with` block ends it.

    `sent_bytes` counts the bytes of each file's content that were sent; `requests` holds method
    and path of every request.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.sent_bytes: Counter[str] = Counter()
        self.requests: list[tuple[str, str]] = []
        self._cuts: dict[str, list[int]] = {}
        self._failures: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def publish(self, repository: str, directory: Path, *, branch: str = "main") -> str:
        """Commit a directory's files to a branch; return the commit's id."""
        files = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in files.items():
            digest.update(name.encode() + b"\0" + content)
        commit = digest.hexdigest()
        stored = self.repositories.setdefault(repository, Repository())
        stored.commits[commit] = files
        stored.branches[branch] = commit
        return commit

    def cut(self, name: str, *, after_bytes: int, times: int = 1) -> None:
        """Break the connection in the middle of the next transfers of a file."""
        self._cuts.setdefault(name, []).extend([after_bytes] * times)

    def fail(self, name: str, status: int, *, times: int = 1) -> None:
        """Answer the next GET requests of a file with an error."""
        self._failures.setdefault(name, []).extend([status] * times)

    def cut_of(self, name: str) -> int | None:
        """Return after how many bytes this transfer breaks, if it does."""
        return _pop(self._cuts, name, self._lock)

    def failure_of(self, name: str) -> int | None:
        """Return the status with which this request fails, if it does."""
        return _pop(self._failures, name, self._lock)

    def note_sent(self, name: str, num_bytes: int) -> None:
        """Count bytes of a file's content."""
        with self._lock:
            self.sent_bytes[name] += num_bytes

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(_HubRequest):
            def __init__(self, request: socket.socket, client: object, server: object) -> None:
                self.hub = hub
                super().__init__(request, client, server)  # type: ignore[arg-type]

        return Handler


class _HubRequest(BaseHTTPRequestHandler):
    """One connection. Routes: `/api/models/{repository}[/revision/…]`, `…/resolve/{rev}/{file}`."""

    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, path))
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            revision = parts[5] if parts[4:5] == ["revision"] else "main"
            self._send_facts("/".join(parts[2:4]), revision)
        elif len(parts) == 5 and parts[2] == "resolve":
            self._send_file("/".join(parts[:2]), parts[3], parts[4])
        else:
            self._send_error(404, "RepoNotFound")

    def _commit(self, repository: str, revision: str) -> str | None:
        """Return the commit, or None after an error was sent."""
        stored = self.hub.repositories.get(repository)
        if stored is None:
            self._send_error(401, "RepoNotFound")
            return None
        commit = stored.branches.get(revision, revision)
        if commit not in stored.commits:
            self._send_error(404, "RevisionNotFound")
            return None
        return commit

    def _send_facts(self, repository: str, revision: str) -> None:
        commit = self._commit(repository, revision)
        if commit is not None:
            names = self.hub.repositories[repository].commits[commit]
            siblings = [{"rfilename": name} for name in names]
            facts = {"id": repository, "sha": commit, "private": False, "siblings": siblings}
            body = json.dumps(facts).encode()
            self._send_head(200, {"Content-Type": "application/json"}, len(body))
            self.wfile.write(body)

    def _send_file(self, repository: str, revision: str, name: str) -> None:
        commit = self._commit(repository, revision)
        if commit is None:
            return
        content = self.hub.repositories[repository].commits[commit].get(name)
        status = self.hub.failure_of(name) if self.command == "GET" else None
        if content is None or status is not None:
            self._send_error(status or 404, "" if status else "EntryNotFound", commit)
            return
        etag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        start = _range_start(self.headers.get("Range"))
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send_head(206 if start else 200, headers, len(content) - start)
        if self.command == "GET":
            self._send_content(name, content[start:])

    def _send_content(self, name: str, content: bytes) -> None:
        cut = self.hub.cut_of(name)
        for start in range(0, len(content), _CHUNK):
            chunk = content[start : start + _CHUNK]
            if cut is not None and start + len(chunk) > cut:
                chunk = chunk[: max(cut - start, 0)]
            self.wfile.write(chunk)
            self.hub.note_sent(name, len(chunk))
            if cut is not None and start + len(chunk) >= cut:
                self.close_connection = True
                return

    def _send_error(self, status: int, code: str, commit: str | None = None) -> None:
        headers = {"X-Error-Code": code} | ({"X-Repo-Commit": commit} if commit else {})
        self._send_head(status, headers, 0)

    def _send_head(self, status: int, headers: dict[str, str], num_bytes: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(num_bytes))
        self.end_headers()


def _pop(queues: dict[str, list[int]], name: str, lock: threading.Lock) -> int | None:
    with lock:
        queue = queues.get(name)
        return queue.pop(0) if queue else None


def _range_start(header: str | None) -> int:
    return int(header.removeprefix("bytes=").split("-")[0]) if header else 0
