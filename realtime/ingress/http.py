"""The HTTP API: how other services publish, and ask who is there.

Every path wants ``Authorization: Bearer KEY``; every answer is JSON. See docs/http.rst.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from heapq import nsmallest
from typing import Any, Final, Protocol
from urllib.parse import unquote_to_bytes

import msgspec
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as NotTaken
from zope.interface import implementer

from ..api_keys import ApiKey, ApiKeys, Scope
from ..broker.interface import IStateStore
from ..errors import (
    InternalError,
    InvalidMessage,
    InvalidPublication,
    InvalidRoom,
    MessageTooLarge,
    MethodNotAllowed,
    NotFound,
    RealtimeError,
    Unauthorized,
)
from ..names import valid_room, valid_user
from ..payload import is_utf8
from ..presence import member_payload
from ..routing import MAX_PAYLOAD
from ..security import Security
from ..transport.site import IEarly, Request
from .answers import json_answer, refusal
from .look import Look
from .moderate import Moderate
from .publish import Accepted, Ingest
from .query import limit_of, query_of

_log = Logger()

#: Bytes of a body: a payload, and what is around it.
BODY_LIMIT: Final = MAX_PAYLOAD + 16_384

#: Bytes of a body that are read so that its sender gets a refusal in the API's own words.
BODY_READ: Final = 1_048_576


class Census(Protocol):
    """Who is connected to this node. Its length is the number of connections."""

    def __len__(self) -> int: ...

    @property
    def users(self) -> int: ...

    def transports(self) -> Mapping[str, int]: ...


class _Publish(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /v1/publish``. A misspelt field is refused: it might be the ``messageId``."""

    channel: str
    data: msgspec.Raw
    message_id: str | None = None


_decode_publish = msgspec.json.Decoder(_Publish).decode


class Api:
    """The HTTP API of one node.

    :param disconnect_user: ends all connections of a user for good, and says how many.
    :param asked: is told of each request, what it asked for (`metrics.API_VERBS`; empty for nothing that
        there is) and the status of its answer.
    """

    def __init__(
        self,
        *,
        keys: ApiKeys,
        security: Security,
        moderate: Moderate,
        ingest: Ingest,
        store: IStateStore,
        connections: Census,
        disconnect_user: Callable[[str], Awaitable[int]],
        look: Look,
        asked: Callable[[str, int], object] = lambda verb, status: None,
    ) -> None:
        self._ingest = ingest
        self._store = store
        self._connections = connections
        self._disconnect_user = disconnect_user
        self._moderate = moderate
        self._look = look
        self.resource = ApiResource(self._app(), keys, security, asked)

    def _app(self) -> Any:
        app = Klein()
        routes: tuple[tuple[Scope, str, str, Callable[..., Any]], ...] = (
            ("publish", "POST", "/v1/publish", self._publish),
            ("read", "GET", "/v1/rooms", self._rooms),
            ("read", "GET", "/v1/rooms/<room>/members", self._members),
            ("read", "GET", "/v1/users/<path:user>/presence", self._presence),
            ("moderate", "DELETE", "/v1/users/<path:user>/connections", self._disconnect),
            ("read", "GET", "/v1/connections/count", self._count),
            *(("moderate", *route) for route in self._moderate.routes()),
            *self._look.routes(),
        )
        for scope, method, path, handler in routes:
            app.route(path, methods=[method])(_scoped(scope, handler))
        app.handle_errors(Exception)(_failed)
        return app

    def _publish(self, request: Request) -> Deferred[bytes]:
        body = _publish_body(request.content.read())
        request.found.check_channel(body.channel)
        publishing = self._ingest.publish(body.channel, bytes(body.data), body.message_id)
        return publishing.addCallback(lambda accepted: json_answer(request, _told(accepted)))

    async def _rooms(self, request: Request) -> bytes:
        query = query_of(request)
        limit = limit_of(query)
        after = query.get("after", "")
        if after and not valid_room(after):
            raise InvalidMessage("after: expected a room id")
        rooms = await self._store.rooms()
        page = nsmallest(limit + 1, (room for room in rooms if room > after))
        told: dict[str, Any] = {
            "rooms": [{"roomId": room, "users": rooms[room]} for room in page[:limit]],
            "next": page[limit - 1] if len(page) > limit else None,
        }
        return json_answer(request, told)

    async def _members(self, request: Request, room: str) -> bytes:
        if not valid_room(room):
            raise InvalidRoom()
        members = await self._store.members(room)
        told = {"roomId": room, "members": [member_payload(presence) for presence in members]}
        return json_answer(request, told)

    async def _presence(self, request: Request, user: str) -> bytes:
        presence = await self._store.presence(_user(user))
        return json_answer(request, member_payload(presence))

    async def _disconnect(self, request: Request, user: str) -> bytes:
        return json_answer(request, {"disconnected": await self._disconnect_user(_user(user))})

    def _count(self, request: Request) -> bytes:
        told = {
            "connections": len(self._connections),
            "users": self._connections.users,
            "transports": dict(self._connections.transports()),
        }
        return json_answer(request, told)


@implementer(IEarly)
class ApiResource(Resource):
    """The root of the listener: lets a request with the key through to the routes of `app`."""

    isLeaf = True

    def __init__(
        self, app: Any, keys: ApiKeys, security: Security, asked: Callable[[str, int], object]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._asked = asked
        self._routes = app.resource()
        self._keys = keys
        self._security = security

    def limit(self) -> int:
        return BODY_READ

    def begin(self, request: Request) -> bool:
        try:
            self._check(request)
        except RealtimeError as error:
            if isinstance(error, Unauthorized):
                self._security.tell("api refused", address=_peer(request), reason=error.code)
            body = refusal(request, error)
            self._asked("", error.status)
            request.answer(error.status, body)
            return False
        request.notifyFinish().addBoth(self._finished, request)
        return True

    def _finished(self, result: object, request: Request) -> None:
        self._asked(request.asked, request.code)

    def _check(self, request: Request) -> None:
        """Judge the head: before a body is read, and before klein sees what it can't decode."""
        scheme, _, sent = (request.getHeader(b"Authorization") or b"").partition(b" ")
        key = self._keys.find(sent.strip())
        if key is None or scheme.lower() != b"bearer":
            raise Unauthorized()
        request.found = key
        if not request.method.isupper():
            raise MethodNotAllowed()
        if not is_utf8(unquote_to_bytes(request.path)):
            raise InvalidMessage("the path is not UTF-8")

    def render(self, request: Request) -> Any:
        if request.content.getbuffer().nbytes > BODY_LIMIT:
            return refusal(request, MessageTooLarge(f"the body has over {BODY_LIMIT} bytes"))
        request.prepath, request.postpath = [], [*map(unquote_to_bytes, request.path[1:].split(b"/"))]
        try:
            return self._routes.render(request)
        except HTTPException:
            return refusal(request, InvalidMessage("the Host header is not valid"))


def _scoped(scope: Scope, handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler, for requests whose key is for that."""

    @wraps(handler)  # klein tells endpoints apart by their names
    def handle(request: Request, **found: str) -> Any:
        key: ApiKey = request.found
        request.asked = handler.__name__.strip("_")
        key.check(scope)
        return handler(request, **found)

    return handle


def _peer(request: Request) -> str:
    return str(getattr(request.channel.getPeer(), "host", ""))


def _failed(request: Request, failure: Failure) -> bytes:
    error = failure.value
    if isinstance(error, NotTaken):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        request.setHeader(b"Allow", allowed.encode())  # type: ignore[no-untyped-call]
        return refusal(request, MethodNotAllowed(f"this path takes {allowed}"))
    if isinstance(error, HTTPException):
        # A redirect among them: it would lead where the Host header says.
        return refusal(request, NotFound())
    if isinstance(error, RealtimeError):
        return refusal(request, error)
    _log.failure("the HTTP API failed to answer", failure)
    return refusal(request, InternalError())


def _publish_body(body: bytes) -> _Publish:
    try:
        return _decode_publish(body)
    except msgspec.ValidationError as error:
        # An unknown field is named in the message: as long as the caller made it.
        raise InvalidPublication(f"the body is not as expected: {str(error)[:200]}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidPublication(f"the body is not JSON: {str(error)[:200]}") from None
    except RecursionError:
        raise InvalidPublication("the body nests too deep") from None


def _told(accepted: Accepted) -> dict[str, Any]:
    audience = accepted.audience
    told: dict[str, Any] = {
        "id": accepted.id,
        "offset": None if accepted.position is None else accepted.position.offset,
        "audience": {
            "everyone": audience.everyone,
            "users": sorted(audience.users),
            "rooms": sorted(audience.rooms),
        },
    }
    if accepted.repeated:
        told["repeated"] = True
    return told


def _user(user: str) -> str:
    if not valid_user(user):
        raise InvalidMessage("the user id in the path is not one")
    return user
