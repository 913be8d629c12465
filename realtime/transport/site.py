"""Site: the HTTP side of the client port, on twisted.web's requests and resources.

The requests come from the door, which has read their heads; a `Channel` is what a request sees of
the door. Nothing here parses forms, writes files, tells a version, or logs a query.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, Protocol

import msgspec
from twisted.internet.interfaces import ISSLTransport, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.error import UnsupportedMethod
from twisted.web.http import datetimeToString, parse_qs
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, getChildForRequest
from zope.interface import Interface

from ..errors import InternalError, MethodNotAllowed, NotFound, RealtimeError
from ..wire.request import Head
from .direct_write import write

JSON: Final = b"application/json"

#: Bytes of a body that a mount takes unless it names its own limit.
BODY_LIMIT: Final = 65536

#: What browsers may do with any answer: show it by itself, with nothing from elsewhere. Pages say more.
SECURITY_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
)


def reason(status: int) -> bytes:
    """The reason phrase of a status."""
    return HTTPStatus(status).phrase.encode()


class IEarly(Interface):
    """A resource that looks at a request before its body is read."""

    def limit() -> int:
        """The bytes of a body at most."""

    def begin(request: Request) -> bool:
        """The head is here. Returns False if the request has been answered; its body is skipped."""


class Request(server.Request):
    """One HTTP request; its body is kept in memory, and no form is parsed.

    :ivar client: the address of who sends it, told by a proxy or not.
    :ivar found: what the resource found when the request began.
    :ivar asked: the name of what is asked for, where the resource counts that.
    :ivar lost: called if the connection goes before the answer is finished.
    """

    defaultContentType = None
    site: Any
    channel: Any
    content: Any
    _log = Logger()

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.site = channel.site
        self.client = ""
        self.resource: Any = None
        self.found: Any = None
        self.asked = ""
        self.lost: Callable[[], None] | None = None

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def begin(self, head: Head) -> bool:
        """Take over the head, find the resource, and let it look. False if that was the answer."""
        for name, value in head.fields:
            self.requestHeaders.addRawHeader(name, value)
        self.gotLength(head.length)
        self.method, self.uri, self.path = head.method, head.target, head.path
        self.clientproto = b"HTTP/1.%d" % head.minor
        self.args = parse_qs(head.query, True)
        self.setHeader(b"Date", datetimeToString())
        for name, value in self.site.headers:
            self.setHeader(name, value)
        self.resource = self.site.getResourceFor(self)
        try:
            return not IEarly.providedBy(self.resource) or self.resource.begin(self)
        except Exception:
            self.processingFailed(Failure())
            return False

    def process(self) -> None:
        """Render what the site has at this path."""
        try:
            self._answer_with(self.resource.render(self))
        except UnsupportedMethod as error:
            self.setHeader(b"Allow", b", ".join(error.allowedMethods))
            self.refuse(MethodNotAllowed())
        except RealtimeError as refusal:
            self.refuse(refusal)
        except Exception:
            self.processingFailed(Failure())

    def _answer_with(self, body: bytes | int) -> None:
        if body is server.NOT_DONE_YET:
            return
        assert isinstance(body, bytes)
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def answer(self, status: int, body: bytes, content_type: bytes = JSON) -> None:
        """Answer with all of this and finish; does nothing if the connection is gone."""
        if self._disconnected or self.finished:
            return
        self.setResponseCode(status)
        if body:
            self.setHeader(b"Content-Type", content_type)
        if status != 204:
            self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def refuse(self, error: RealtimeError) -> None:
        """Answer with a refusal, as JSON."""
        if error.retry_after is not None:
            self.setHeader(b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after)))
        self.answer(error.status, msgspec.json.encode(error.refusal()))

    def processingFailed(self, reason: Failure) -> Failure:
        """Our own fault: logged, and said without details."""
        self._log.failure("a request failed", reason)
        if self.startedWriting:
            self.loseConnection()
        else:
            self.refuse(InternalError())
        return reason

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()


class _Nothing:
    """What is found where nothing is mounted."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        raise NotFound


class Site:
    """What is mounted under which path.

    :param mounts: twisted.web resources by path, such as ``/socket.io``, without a slash at the end.
        One that is a leaf gets requests for exactly its path, with or without that slash (at the root,
        for every path); one that is not is asked for its children.
    :param strict_transport: seconds for which browsers are told to come by https only; 0 for not.
    :ivar headers: what every answer has, whatever it is.
    """

    def __init__(self, mounts: Mapping[str, IResource], strict_transport: int = 0) -> None:
        self.headers = SECURITY_HEADERS
        if strict_transport:
            self.headers += ((b"Strict-Transport-Security", b"max-age=%d" % strict_transport),)
        self._mounts = {
            tuple(path.strip("/").encode().split(b"/")): resource for path, resource in mounts.items()
        }

    def limit(self, head: Head) -> int:
        """The bytes of a body that this request may have."""
        resource, rest = self._find(head.path)
        found = not any(rest) or self._at_root(rest, head.path)
        return resource.limit() if found and IEarly.providedBy(resource) else BODY_LIMIT

    def getResourceFor(self, request: Request) -> Any:
        """The resource that a request names."""
        resource, rest = self._find(request.path)
        if resource is None or (resource.isLeaf and any(rest) and not self._at_root(rest, request.path)):
            return _Nothing()
        if resource.isLeaf:
            return resource
        request.postpath = rest
        request.prepath = request.path[1:].split(b"/")[: -len(rest) or None]
        return getChildForRequest(resource, request)

    @staticmethod
    def _at_root(rest: list[bytes], path: bytes) -> bool:
        return b"/" + b"/".join(rest) == path

    def _find(self, path: bytes) -> tuple[Any, list[bytes]]:
        parts = path[1:].split(b"/")
        for end in range(len(parts), -1, -1):
            resource = self._mounts.get(tuple(parts[:end]) or (b"",))
            if resource is not None:
                return resource, parts[end:]
        return None, parts


class IDoor(Protocol):
    """What a channel needs of the door."""

    def answered(self) -> None:
        """The request's answer has been written."""

    def prove(self) -> None:
        """This connection carries a session: it is no stranger any more."""

    def lose(self) -> None:
        """Close the connection after what was written."""


class Channel:
    """The connection, as twisted.web's requests see it.

    :ivar persistent: whether another request may follow on the connection.
    """

    factory = None

    def __init__(self, door: IDoor, site: Site, transport: ITransport) -> None:
        self.site = site
        self.transport: Any = transport
        self.persistent = True
        self._door = door
        # The head of an answer, which leaves with the first of its body.
        self._head = b""

    def prove(self) -> None:
        """The request belongs to a session."""
        self._door.prove()

    def getPeer(self) -> Any:
        return self.transport.getPeer()

    def getHost(self) -> Any:
        return self.transport.getHost()

    def isSecure(self) -> bool:
        return ISSLTransport(self.transport, None) is not None

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        lines = [b"HTTP/1.1 ", code, b" ", reason, b"\r\n"]
        for name, values in headers.getAllRawHeaders():
            for value in values:
                lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n" if self.persistent else b"Connection: close\r\n\r\n")
        self._head = b"".join(lines)

    def write(self, data: bytes) -> None:
        head, self._head = self._head, b""
        write(self.transport, head + data)

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._door.lose()

    def requestDone(self, request: Request) -> None:
        if self._head:
            self.write(b"")
        self._door.answered()
