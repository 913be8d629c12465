"""Assets: the files of a page of our own, read once, under headers that let it load nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from twisted.web.http import CACHED
from twisted.web.resource import Resource

from ..errors import MethodNotAllowed, NotFound
from .site import Request

#: Where the pages are.
FOLDER: Final = Path(__file__).parents[1] / "console"

_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}

_HEADERS: Final = (
    (
        b"Content-Security-Policy",
        b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        b" object-src 'none'",
    ),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    # it changes with the server: ask each time, by its tag
    (b"Cache-Control", b"no-cache"),
)


class Asset(Resource):
    """One file."""

    isLeaf = True

    def __init__(self, content: bytes, kind: bytes) -> None:
        super().__init__()
        self._content = content
        self._kind = kind
        self._tag = b'"%b"' % hashlib.sha256(content).hexdigest()[:32].encode()

    def render(self, request: Request) -> bytes:
        if request.postpath:
            raise NotFound
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            raise MethodNotAllowed("this path takes GET, HEAD")
        for name, value in _HEADERS:
            request.setHeader(name, value)
        request.setHeader(b"Content-Type", self._kind)
        if request.setETag(self._tag) is CACHED:
            return b""
        return self._content


class _Missing(Resource):
    isLeaf = True

    def render(self, request: Request) -> bytes:
        raise NotFound


class _Slash(Resource):
    """The path without its slash, under which the page's relative addresses would be wrong ones."""

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self._location = f"{name}/".encode()

    def render(self, request: Request) -> bytes:
        request.setResponseCode(308)
        # relative: right behind a proxy that puts it elsewhere, too
        request.setHeader(b"Location", self._location)
        return b""


class Assets(Resource):
    """A page under a mount: ``/try/`` is ``try.html``, and the files that it is made of are beside it.

    :param name: of the mount, without slashes, and of the page's file.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._slash = _Slash(name)
        for path, content in _files(name):
            parts = path.split("/")
            place: Resource = self
            for folder in parts[:-1]:
                if folder.encode() not in place.children:
                    place.putChild(folder.encode(), _Folder())
                place = place.children[folder.encode()]
            asset = Asset(content, _TYPES["." + path.rpartition(".")[2]])
            place.putChild(parts[-1].encode(), asset)
            if path == f"{name}.html":
                self.putChild(b"", asset)

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Missing()

    def render(self, request: Request) -> bytes:
        return self._slash.render(request)


class _Folder(Resource):
    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Missing()

    def render(self, request: Request) -> bytes:
        raise NotFound


def _files(name: str) -> Iterator[tuple[str, bytes]]:
    """What the page may be made of: all but the other pages."""
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in _TYPES and (path.suffix != ".html" or path.stem == name):
            yield path.relative_to(FOLDER).as_posix(), path.read_bytes()
