"""The chat page and its files, read into memory once: no request can name a file outside them."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from app.errors import RouteNotFoundError

STATIC_DIRECTORY: Final = Path(__file__).resolve().parents[2] / "static"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}
_FALLBACK_TYPE: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    content_type: str
    etag: str


class Pages:
    """Serves `index.html` of a directory, and all its files under `/static/`."""

    def __init__(self, directory: Path) -> None:
        """Read all files of `directory`; a missing one has no files. Hidden files stay hidden."""
        self._files = {
            path.relative_to(directory).as_posix(): _read(path)
            for path in sorted(directory.rglob("*"))
            if path.is_file() and not any(p.startswith(".") for p in path.parts[-2:])
        }

    async def index(self, request: Request) -> Response:
        """Serve `/`, and `/swarm`, where the page begins with its servers."""
        return self._answer(request, "index.html")

    async def file(self, request: Request) -> Response:
        """Serve `/static/{path}`."""
        return self._answer(request, request.path_params["path"])

    def _answer(self, request: Request, name: str) -> Response:
        file = self._files.get(name)
        if file is None:
            raise RouteNotFoundError
        # Browsers ask each time, and mostly hear "not modified".
        headers = {"etag": file.etag, "cache-control": "no-cache"}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.content_type, headers=headers)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    etag = f'"{sha256(content).hexdigest()[:32]}"'
    return _File(content, _TYPES.get(path.suffix, _FALLBACK_TYPE), etag)
