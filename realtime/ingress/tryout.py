"""TryOut: the try-out page of development mode, and what it asks for beside a client's connection.

It is let in by a key of its own, which the greeting's address carries behind ``#`` (so that no request,
log or proxy sees it). The key follows from API_KEY: the address stays good when the server starts again.

::

    POST about {} -> {path, directPath, realm, originAllowed}
    POST token {user} -> {token}        of one of its people
    POST publish {channel, data} -> {id, audience}
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from ..errors import InternalError, InvalidMessage, MethodNotAllowed, RealtimeError, Unauthorized
from ..settings import Settings
from ..tokens import mint
from ..transport.assets import Assets
from ..transport.origins import Origins
from ..transport.site import Request
from .answers import json_answer, refusal
from .publish import Ingest

_log = Logger()

#: The name of the page, and of the mount.
NAME: Final = "try"

#: Who is on the page.
PEOPLE: Final = ("alice", "bob")

#: Seconds for which the tokens of its people are good.
_LIFETIME: Final = 3600.0


def page_key(settings: Settings) -> str:
    """The key of the page: 256 bits that say nothing of the secret they are made from."""
    made = hmac.digest(settings.api_key.encode(), b"realtime: the try-out page", hashlib.sha256)
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


class _Token(msgspec.Struct):
    user: str


class _Publish(msgspec.Struct):
    channel: str
    data: msgspec.Raw


class _Nothing(msgspec.Struct):
    pass


class TryOut(Assets):
    """The page under its mount.

    :param wall: seconds since the epoch.
    """

    def __init__(self, settings: Settings, ingest: Ingest, wall: Callable[[], float]) -> None:
        super().__init__(NAME)
        self._settings = settings
        self._ingest = ingest
        self._wall = wall
        self._origins = Origins(settings.origins)
        key = page_key(settings).encode()
        for name, body, answer in (
            ("about", _Nothing, self._about),
            ("token", _Token, self._token),
            ("publish", _Publish, self._publish),
        ):
            self.putChild(name.encode(), _Call(key, body, answer))

    async def _about(self, request: Request, body: _Nothing) -> dict[str, Any]:
        origin = request.getHeader(b"Origin")
        return {
            "path": self._settings.ws_path,
            "directPath": self._settings.ws_direct_path,
            "realm": self._settings.wamp_realm,
            "originAllowed": self._origins.allows(None if origin is None else origin.decode("latin-1")),
        }

    async def _token(self, request: Request, body: _Token) -> dict[str, Any]:
        if body.user not in PEOPLE:
            raise InvalidMessage(f"user: accepted is one of {', '.join(PEOPLE)}")
        return {"token": mint(self._settings, body.user, now=self._wall(), lifetime=_LIFETIME)}

    async def _publish(self, request: Request, body: _Publish) -> dict[str, Any]:
        accepted = await self._ingest.publish(body.channel, bytes(body.data))
        audience = accepted.audience
        return {
            "id": accepted.id,
            "audience": {
                "everyone": audience.everyone,
                "users": sorted(audience.users),
                "rooms": sorted(audience.rooms),
            },
        }


class _Call(Resource):
    """One POST of a JSON body, answered in JSON."""

    isLeaf = True

    def __init__(self, key: bytes, body: type[Any], answer: Callable[..., Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._key = key
        self._decode = msgspec.json.Decoder(body).decode
        self._answer = answer

    def render(self, request: Request) -> int:
        answering = Deferred.fromCoroutine(self._answered(request))
        answering.addErrback(_failed, request)
        answering.addCallback(lambda body: request.answer(request.code, body))
        return NOT_DONE_YET

    async def _answered(self, request: Request) -> bytes:
        if request.method != b"POST":
            request.setHeader(b"Allow", b"POST")  # type: ignore[no-untyped-call]
            raise MethodNotAllowed("this path takes POST")
        scheme, _, sent = (request.getHeader(b"Authorization") or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(sent.strip(), self._key):
            raise Unauthorized("this is not the key of the try-out page")
        try:
            body = self._decode(request.content.read())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidMessage("the body is not as expected") from None
        return json_answer(request, await self._answer(request, body))


def _failed(failure: Failure, request: Request) -> bytes:
    error = failure.value
    if not isinstance(error, RealtimeError):
        _log.failure("the try-out page was not answered", failure)
        error = InternalError()
    return refusal(request, error)
