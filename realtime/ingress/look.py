"""Look: what operators and the console ask of nodes, connections, users and rooms, over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from ..api_keys import Scope
from ..broker.interface import IBroker
from ..errors import InvalidMessage, InvalidRoom, NotFound, RealtimeError, TooManyConnections
from ..inquiries import Inquiries
from ..names import valid_room, valid_user
from ..transport.site import Request
from .answers import json_answer
from .query import limit_of, query_of

#: What is asked of one connection may be the private messages of its user: that is for who may end it.
_PRIVATE: Final[Scope] = "moderate"

#: A stream looks this often, seconds; says something at least so often; ends after so many bytes, for they
#: may wait for a reader who does not read, and after so long. The reader begins another where it ended.
LOOK_EVERY: Final = 0.5
SPEAK_EVERY: Final = 10.0
STREAM_BYTES: Final = 1_048_576
STREAM_SECONDS: Final = 600.0
MAX_STREAMS: Final = 32

Route = tuple[Scope, str, str, Callable[..., Awaitable[bytes]]]

_FILTERS: Final = ("user", "room", "protocol", "transport", "after")
_CHOICES: Final = {"protocol": ("socketio", "wamp", "plain"), "transport": ("websocket", "polling")}


class _Seen(msgspec.Struct):
    number: int


class _Events(msgspec.Struct):
    """What a node answers to ``events``."""

    events: list[msgspec.Raw]
    open: bool


_decode_events = msgspec.json.Decoder(_Events).decode
_decode_seen = msgspec.json.Decoder(_Seen).decode


class Look:
    """The routes of what is asked only."""

    def __init__(self, clock: IReactorTime, inquiries: Inquiries, broker: IBroker) -> None:
        self._clock = clock
        self._inquiries = inquiries
        self._broker = broker
        self._streams = 0

    def routes(self) -> tuple[Route, ...]:
        """Scope, method, path and handler of each."""
        return (
            ("read", "GET", "/v1/nodes", self._nodes),
            ("read", "GET", "/v1/users", self._users),
            ("read", "GET", "/v1/connections", self._connections),
            ("read", "GET", "/v1/connections/<connection>", self._connection),
            (_PRIVATE, "GET", "/v1/connections/<connection>/events", self._events),
        )

    async def _nodes(self, request: Request) -> bytes:
        answers = await self._inquiries.all("figures", {})
        return json_answer(request, {"node": self._inquiries.node, "nodes": list(answers.values())})

    async def _users(self, request: Request) -> bytes:
        query = query_of(request)
        asked = {"limit": str(limit_of(query)), **_filters(query, ("after",))}
        return await self._told(request, query, "users", asked)

    async def _connections(self, request: Request) -> bytes:
        query = query_of(request)
        asked = {"limit": str(limit_of(query)), **_filters(query, _FILTERS)}
        return await self._told(request, query, "connections", asked)

    async def _connection(self, request: Request, connection: str) -> bytes:
        return await self._told(request, query_of(request), "connection", {"id": connection[:128]})

    async def _told(
        self, request: Request, query: dict[str, str], what: str, asked: dict[str, str]
    ) -> bytes:
        return json_answer(request, await self._inquiries.one(_node(query), what, asked))

    async def _events(self, request: Request, connection: str) -> bytes:
        """Server-Sent Events (html.spec.whatwg.org): ``id`` is the number to go on after."""
        query = query_of(request)
        after = _number(query.get("after", "0"), "after")
        asked = {"id": connection[:128], "after": str(after)}
        # before anything is written: who is not there is a 404
        first = await self._inquiries.one(_node(query), "events", asked)
        if self._streams >= MAX_STREAMS:
            raise TooManyConnections(f"{MAX_STREAMS} streams are open already")
        self._streams += 1
        try:
            request.setHeader(b"Content-Type", b"text/event-stream")  # type: ignore[no-untyped-call]
            request.setHeader(b"Cache-Control", b"no-store")  # type: ignore[no-untyped-call]
            await self._stream(request, _node(query), asked, first)
        finally:
            self._streams -= 1
        return b""

    async def _stream(self, request: Request, node: str, asked: dict[str, str], told: Any) -> None:
        ends = self._clock.seconds() + STREAM_SECONDS
        written = 0
        spoke = -SPEAK_EVERY
        while written < STREAM_BYTES and self._clock.seconds() < ends:
            found = _decode_events(told)
            chunk = b""
            for seen in found.events:
                number = _decode_seen(seen).number
                chunk += b"id: %d\ndata: %b\n\n" % (number, bytes(seen))
                asked["after"] = str(number)
            if not found.open:
                request.write(chunk + b"event: end\ndata: {}\n\n")  # type: ignore[no-untyped-call]
                return
            if not chunk and self._clock.seconds() - spoke >= SPEAK_EVERY:
                chunk = b": nothing new\n\n"
            if chunk:
                spoke = self._clock.seconds()
                written += len(chunk)
                request.write(chunk)  # type: ignore[no-untyped-call]
            await deferLater(self._clock, LOOK_EVERY)
            try:
                told = await self._inquiries.one(node, "events", asked)
            except RealtimeError:
                # the answer has begun: the reader asks anew, and is told then
                return


def _filters(query: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    found = {name: query[name] for name in names if query.get(name)}
    for name, accepted in _CHOICES.items():
        if found.get(name, accepted[0]) not in accepted:
            raise InvalidMessage(f"{name}: accepted is one of {', '.join(accepted)}")
    if "user" in found and not valid_user(found["user"]):
        raise InvalidMessage("user: expected a user id")
    if "room" in found and not valid_room(found["room"]):
        raise InvalidRoom()
    if len(found.get("after", "")) > 128:
        raise InvalidMessage("after: expected what `next` had told")
    return found


def _node(query: dict[str, str]) -> str:
    node = query.get("node", "")
    if len(node) > 64:
        raise NotFound("there is no such node")
    return node


def _number(text: str, name: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 16:
        return int(text)
    raise InvalidMessage(f"{name}: expected a whole number")
