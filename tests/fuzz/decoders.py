"""Every decoder of what strangers and other services send, as a function of bytes.

Each returns, or raises one of the refusals that are meant for it; anything else is a fault.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from autobahn.wamp import message as autobahn_message
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from twisted.logger import globalLogPublisher

from realtime import events, signals
from realtime.addresses import Proxies
from realtime.auth import Authenticator
from realtime.bans import Bans
from realtime.broker import texts as broker_texts
from realtime.config_file import ContentRule
from realtime.content import WordFilter
from realtime.errors import ProtocolError, RealtimeError
from realtime.front.convert import NotJson, to_json
from realtime.ingress.verbs import VERBS
from realtime.introspection import _active
from realtime.keys import KeyRing, read_set, secret_key
from realtime.messages import Later, Sequence
from realtime.routing import Routing
from realtime.trust.memory import MemoryTrust
from realtime.trust.redis import read_change
from realtime.v1 import realtime_pb2
from realtime.wire import engineio, proxy_header
from realtime.wire.plain import PlainSession
from realtime.wire.request import BadRequest, Chunked, parse
from realtime.wire.socketio import SocketIOSession
from realtime.wire.wamp import WampSession
from realtime.wire.wamp_codecs import CODECS
from realtime.wire.wamp_realm import Realm
from tests.transport.peer import Peer, World
from tests.wampclient import ROLES, SERIALIZERS

_PROXIES = Proxies(["10.0.0.0/8"])
_KEYS = KeyRing([secret_key("k" * 32)])
_AUTHENTICATOR = Authenticator(
    _KEYS,
    Bans(lambda: 0.0),
    MemoryTrust(lambda: 0.0),
    secret="",
    refresh_secret="",
    audience="",
    issuer="",
    leeway=0.0,
    wall=lambda: 0.0,
)
_FILTER = WordFilter(
    ContentRule(languages=("english", "chinese"), words=("scam*",), patterns=("[0-9]{6}",))
)
_REALM = Realm("realtime", 10_000)
_HELLO = {
    name: serializer().serialize(autobahn_message.Hello("realtime", ROLES, authmethods=["ticket"]))[0]
    for name, serializer in SERIALIZERS.items()
}
_CONNECTED = b'{"userId":"alice","connectionId":"c","timestamp":1,"expiresAt":2,"recovered":false}'
_ROUTING = Routing(["invoice"])
_WORLD = World()
_REQUESTS = [
    GetMessageClass(method.input_type)
    for service in realtime_pb2.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def engine(data: bytes) -> None:
    """Engine.IO: a WebSocket's text, a polling body, and a query."""
    with contextlib.suppress(ProtocolError):
        engineio.decode(data.decode("utf-8", "replace"))
    with contextlib.suppress(ProtocolError):
        for part in engineio.parts(data):
            engineio.decode_part(part)
    query = engineio.Query.parse(data.decode("latin-1"))
    engineio.verify(query, method="GET", upgrade=True, session=None, allowed=True)


def socketio(data: bytes) -> None:
    """Socket.IO: a session that is connected, and the packets that follow, a line each.

    A line that begins with ``b`` is binary.
    """
    session = SocketIOSession(10_000)
    session.receive("0")
    for line in data.split(b"\n"):
        try:
            session.receive(line[1:] if line[:1] == b"b" else line.decode("utf-8", "replace"))
        except ProtocolError:
            return


def plain(data: bytes) -> None:
    """Plain JSON: messages, a line each; one that begins with ``b`` is binary."""
    session = PlainSession()
    session.opening(False)
    for line in data.split(b"\n"):
        session.receive(line[1:] if line[:1] == b"b" else line.decode("utf-8", "replace"))


def wamp(data: bytes) -> None:
    """WAMP: a message by each serializer, before and after the session has begun."""
    for codec in CODECS:
        text = codec.subprotocol.endswith("json")
        frame = data.decode("utf-8", "replace") if text else data
        for joined in (False, True):
            session = WampSession(_REALM.encoder(codec))
            session.opening(True)
            if joined:
                hello = _HELLO[codec.subprotocol]
                session.receive(hello.decode() if text else hello)
                session.connected("c", "s")
                session.event("system:connected", _CONNECTED, Sequence("e", 1, 1))
            with contextlib.suppress(ProtocolError):
                for command in session.receive(frame):
                    if isinstance(command, Later):
                        command.decide()


def request(data: bytes) -> None:
    """HTTP: a head, a chunked body, the PROXY protocol, X-Forwarded-For."""
    for decode in (parse, Chunked(1000).feed, proxy_header.read):
        with contextlib.suppress(BadRequest):
            decode(data)
    _PROXIES.client("10.0.0.1", [data])


def api(data: bytes) -> None:
    """The HTTP API: bodies, and what is published to channels."""
    for verb in VERBS.values():
        with contextlib.suppress(RealtimeError):
            verb.decode(data)
    channel, _, payload = data.partition(b"\n")
    with contextlib.suppress(RealtimeError):
        _ROUTING.route(channel.decode("utf-8", "replace"), payload, 0)


def payloads(data: bytes) -> None:
    """What clients' events carry."""
    for kind in events.CLIENT_EVENTS.values():
        with contextlib.suppress(RealtimeError):
            events.decode(kind, data)


def tokens(data: bytes) -> None:
    """Tokens, sets of keys, and answers of the Auth Service."""
    with contextlib.suppress(RealtimeError):
        _AUTHENTICATOR.verify(data.decode("utf-8", "replace"))
    for decode in (read_set, _active):
        with contextlib.suppress(ValueError):
            decode(data)


def redis(data: bytes) -> None:
    """What nodes hear over Redis: publications, signals, bans, plain messages of services.

    A message whose first line is a channel, as services publish it.
    """
    with contextlib.suppress(ValueError):
        broker_texts.parse(data)
    name, _, rest = data.partition(b"\n")
    signals.decode(name.decode("utf-8", "replace"), rest)
    with contextlib.suppress(ValueError):
        read_change(rest)
    channel = name.decode("utf-8", "replace")
    with contextlib.suppress(RealtimeError):
        _ROUTING.route(channel, rest, 0)


def texts(data: bytes) -> None:
    """What people write, as the filter looks at it."""
    text = data.decode("utf-8", "replace")
    for start, end in _FILTER.find(text):
        if not 0 <= start < end <= len(text):
            raise AssertionError((start, end))


def port(data: bytes) -> None:
    """What comes to the clients' port: requests, upgrades, and what follows them on a WebSocket."""
    with _unlogged():
        peer = _WORLD.peer()
        peer.send(data)
        _end(peer)


def frames(data: bytes) -> None:
    """What comes on a WebSocket that carries a session, in one piece and then cut into three."""
    third = len(data) // 3
    for pieces in ((data,), (data[:third], data[third : 2 * third], data[2 * third :])):
        with _unlogged():
            peer, _ = _WORLD.websocket()
            for piece in pieces:
                peer.send(piece)
            _end(peer)


def grpc(data: bytes) -> None:
    """Requests of the gRPC API, as protocol buffers."""
    for kind in _REQUESTS:
        try:
            message = kind.FromString(data)
        except DecodeError:
            continue
        with contextlib.suppress(NotJson):
            msgspec.json.decode(to_json(message))


def _end(peer: Peer) -> None:
    peer.read()
    peer.wire.hang_up()
    _WORLD.clock.advance(0)
    _WORLD.recorders.clear()


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Whatever is logged as a failure meanwhile is a fault: handlers' exceptions go no further."""
    failures: list[Any] = []

    def look(event: Mapping[str, Any]) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"])

    globalLogPublisher.addObserver(look)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(look)
    if failures:
        failures[0].raiseException()


DECODERS: dict[str, Callable[[bytes], Any]] = {
    decoder.__name__: decoder
    for decoder in (
        *(engine, socketio, plain, wamp, request, api, payloads, tokens, texts, redis),
        *(port, frames, grpc),
    )
}
