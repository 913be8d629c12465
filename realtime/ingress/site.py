"""Site: twisted.web for our internal listeners, with the bounds that it lacks (RELIABILITY.md 4.3)."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource

from ..errors import InternalError, InvalidMessage, MessageTooLarge
from ..routing import MAX_PAYLOAD
from .answers import refusal

#: Bytes of a body: a payload, and room for what is around it.
BODY_LIMIT: Final = MAX_PAYLOAD + 16_384

#: Bytes of a body that are read, and thrown away, so that the sender gets to read the refusal.
BODY_IGNORED: Final = 16 * BODY_LIMIT

#: Seconds for a request to come in whole, counted from the answer before it.
REQUEST_DEADLINE: Final = 30

_log = Logger()


class Request(server.Request):
    """A request whose body stays in memory, up to `BODY_LIMIT`, and is never taken for a form."""

    _received = 0
    _cut = False

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        if length is not None and length > BODY_IGNORED:
            self._cut_off()

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received <= BODY_LIMIT:
            assert self.content is not None
            self.content.write(data)
        elif self._received > BODY_IGNORED and not self._cut:
            self._cut_off()

    def _cut_off(self) -> None:
        self._cut = True
        assert self.channel.transport is not None
        self.channel.transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n\r\n")
        self.channel.loseConnection()

    def process(self) -> None:
        if self.path == b"*":
            self.path = b"/"  # else twisted.web answers by itself, past the resource and its key
        if not self._cut:
            super().process()  # type: ignore[no-untyped-call]

    def render(self, resrc: Resource) -> None:
        self.responseHeaders.removeHeader(b"Server")
        if self._received > BODY_LIMIT:
            self._refuse(MessageTooLarge(f"the body has over {BODY_LIMIT} bytes"))
        elif len(self.requestHeaders.getRawHeaders(b"Host", [])) > 1:
            self._refuse(InvalidMessage("more than one Host header"))
        else:
            super().render(resrc)  # type: ignore[no-untyped-call]

    def _refuse(self, error: MessageTooLarge | InvalidMessage | InternalError) -> None:
        self.write(refusal(self, error))  # type: ignore[no-untyped-call]
        self.finish()  # type: ignore[no-untyped-call]

    def processingFailed(self, reason: Failure) -> Failure:
        _log.failure("a request failed", reason)
        if self.startedWriting:
            self.channel.loseConnection()
        else:
            self._refuse(InternalError())
        return reason


class _Channel(HTTPChannel):
    """A connection whose requests have an absolute deadline: bytes that trickle in do not move it."""

    def resetTimeout(self) -> None:
        pass


class Site(server.Site):
    """A listener's factory. Answers all paths from one resource; keeps no access log."""

    protocol = _Channel  # type: ignore[assignment]
    displayTracebacks = False

    def __init__(self, resource: Resource, clock: IReactorTime) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            resource,
            requestFactory=Request,
            parsePOSTFormSubmission=False,
            timeout=REQUEST_DEADLINE,
            reactor=clock,
        )

    def startFactory(self) -> None:
        """No access log: it would hold query strings, and its clock would tick each second."""

    def stopFactory(self) -> None:
        pass

    def log(self, request: server.Request) -> None:  # type: ignore[override]
        pass
