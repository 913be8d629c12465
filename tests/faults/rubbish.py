"""Rubbish: random and mutated frames and HTTP requests, drawn from a seed.

Nothing here knows what the service does with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import cbor2
import msgpack

from tests.clients.raw import POLLING, WEBSOCKET, frame, request, upgrade
from tests.clients.service import API_KEY

KEY = {"Authorization": f"Bearer {API_KEY}"}

#: What clients send over a WebSocket once they are connected, as Engine.IO messages.
PACKETS = [
    b"2",
    b"3probe",
    b"5",
    b'42["room:join",{"roomId":"rubbish"}]',
    b'421["room:join",{"roomId":"rubbish","position":{"offset":3,"epoch":"e"}}]',
    b'422["room:message",{"roomId":"rubbish","text":"hello"}]',
    b'423["room:message",{"roomId":"rubbish","data":{"a":[1,2.5,null,{"b":"\\u2028"}]}}]',
    b'451-4["room:message",{"roomId":"rubbish","data":{"_placeholder":true,"num":0}}]',
    b'452-["room:message",{"roomId":"rubbish","data":[{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]}]',
    b'425["room:history",{"roomId":"rubbish","after":1,"limit":10}]',
    b'426["room:leave",{"roomId":"rubbish"}]',
    b'42["user:typing",{"roomId":"rubbish","typing":true}]',
    b'427["user:presence",{"status":"busy","text":"x"}]',
    b'428["user:preferences",{"mutedEvents":["a"],"mutedRooms":["b"]}]',
    b'429["auth:login",{"token":"eyJhbGciOiJIUzI1NiJ9.e30.x"}]',
    b'4210["auth:token_refresh",{"refreshToken":"r"}]',
    b"431[1]",
    b'40/custom,{"token":"x"}',
    b"40{}",
    b"41",
    b'44{"message":"x"}',
    b"1",
    b"6",
]

#: Names of events, right and wrong; and what their payloads are made of.
EVENTS = [
    *("auth:login", "auth:token_refresh", "room:join", "room:leave", "room:message", "room:history"),
    *("user:typing", "user:presence", "user:preferences", "queue:join", "booking:confirmed"),
    *("connect", "disconnect", "system:error", "", "__proto__", "a" * 300, "\u2028", "\x00"),
]
FIELDS = [
    *("roomId", "text", "data", "token", "refreshToken", "position", "after", "before", "limit", "offset"),
    *("epoch", "typing", "status", "mutedEvents", "mutedRooms", "clientMessageId", "everywhere"),
    *("_placeholder", "num", "__proto__", "constructor", "$binary", "", "\ud7ff", "a b"),
]
VALUES = [
    *(
        "rubbish",
        "rubbish",
        "rubbish",
        "private:1",
        "user:mallory",
        "role:x",
        "a:b:c",
        ":",
        "no room",
        "x" * 200,
    ),
    *("online", "busy", "away", "invisible", "AAEC", "=", "\u0000", "\u2028", "\U0001f3ab", "%s{0}", "*"),
    *(0, 1, -1, 3, 2**31, 2**53, 2**64, -(2**63), 10**30, 0.5, 1e308, True, False, None),
]

#: Requests of clients and services, whole and right.
REQUESTS = [
    request("GET", POLLING),
    request("GET", POLLING + "&sid=AAAAAAAAAAAAAAAAAAAA"),
    request("POST", POLLING + "&sid=AAAAAAAAAAAAAAAAAAAA", b"40", Content_Type="text/plain;charset=UTF-8"),
    request("POST", POLLING, b'40\x1e42["room:join",{"roomId":"a"}]\x1ebAAEC'),
    request("OPTIONS", POLLING, Origin="http://localhost", Access_Control_Request_Method="POST"),
    request("GET", "/socket.io/?EIO=3&transport=polling"),
    request("GET", "/socket.io/?EIO=4&transport=carrier-pigeon"),
    request("GET", WEBSOCKET),
    upgrade(),
    upgrade(WEBSOCKET + "&sid=AAAAAAAAAAAAAAAAAAAA"),
    request("GET", "/"),
    request("GET", "/health", Connection="keep-alive"),
    request("GET", "/metrics"),
    request("PUT", "/v1/publish", b"{}"),
    b"POST /socket.io/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
]

API_REQUESTS = [
    request("POST", "/v1/publish", b'{"channel":"booking:created","data":{"userId":"a"}}', **KEY),
    request("POST", "/v1/publish", b'{"channel":"room:rubbish:message","data":{"a":[1,{}]}}', **KEY),
    request(
        "POST", "/v1/publish", b'{"channel":"ticket:sold","data":{"eventId":7},"messageId":"m"}', **KEY
    ),
    request("GET", "/v1/rooms?limit=5&after=a", **KEY),
    request("GET", "/v1/rooms/lobby/members", **KEY),
    request("GET", "/v1/users/mallory/presence", **KEY),
    request("DELETE", "/v1/users/x/connections", **KEY),
    request("GET", "/v1/connections/count", **KEY),
]

#: Bytes and texts that parsers stumble over.
NASTY = [
    *(b"\x00", b"\r\n", b"\n", b"\r", b"\x85", b"\x0b", b"\xff\xfe", b"\xed\xa0\x80", b"\xf0\x9f\x8e\xab"),
    *(b"-1", b"+1", b"0x10", b"1e999", b"NaN", b"9" * 40, b"-0", b"1.5", b"\xd9\xa3"),
    *(b'"', b"\\", b"\\ud800", b"{", b"}", b"[" * 200, b"]" * 50, b'{"a":' * 60),
    *(b"__proto__", b"constructor", b"{0.__class__}", b"%s%n", b"../../etc/passwd"),
    *(b"\x1e", b"b!!!!", b"bAA"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b" folded\r\n"),
    *(b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b": empty\r\n"),
    b"X: " + b"a" * 9000 + b"\r\n",
]


#: What WAMP's serializers make of a message.
DUMPS: dict[str, Callable[[object], bytes]] = {
    "wamp.2.json": lambda message: json.dumps(message).encode(),
    "wamp.2.cbor": cbor2.dumps,
    "wamp.2.msgpack": lambda message: msgpack.packb(message, default=str),
}


class Visit(NamedTuple):
    """What one connection brings.

    :ivar listener: the setting of the port that it goes to.
    :ivar parts: what it sends, part by part.
    :ivar frames: how many frames and requests that is.
    """

    listener: str
    parts: list[bytes]
    frames: int


class Rubbish:
    """A source of visits; equal seeds give equal visits.

    :param token: a token that lets a part of the visitors in.
    """

    def __init__(self, seed: int, token: str) -> None:
        self._dice = Random(seed)
        self._token = token.encode()

    def visit(self) -> Visit:
        """The next visit."""
        kinds: list[Callable[[], Visit]] = [self._http, self._websocket, self._polling, self._direct]
        return self._dice.choice(kinds)()

    # -- whole visits

    def _http(self) -> Visit:
        dice = self._dice
        listener = dice.choice(["PORT", "PORT", "API_PORT", "HEALTH_CHECK_PORT", "METRICS_PORT"])
        count = dice.choice([1, 1, 2, 3])
        chosen = API_REQUESTS if listener == "API_PORT" and dice.random() < 0.8 else REQUESTS
        sent = [self._mutated(dice.choice(chosen)) for _ in range(count)]
        if dice.random() < 0.1:
            sent = [dice.randbytes(dice.randrange(1, 3000)) for _ in sent]
        return Visit(listener, self._cut_up(b"".join(sent)), count)

    def _websocket(self) -> Visit:
        dice = self._dice
        frames = [frame(self._connect_packet())] if dice.random() < 0.9 else []
        if dice.random() < 0.6:
            frames.append(frame(b'42["room:join",{"roomId":"rubbish"}]'))
        frames += [frame(self._event()) for _ in range(dice.randrange(8))]
        frames += [self._frame() for _ in range(dice.randrange(1, 5))]
        return Visit("PORT", [upgrade(), b"".join(frames)], len(frames))

    def _direct(self) -> Visit:
        """Plain JSON, or WAMP by one of its serializers."""
        dice = self._dice
        subprotocol = dice.choice(["realtime.v1.json", *DUMPS])
        dumps = DUMPS.get(subprotocol)
        opcode = 1 if subprotocol.endswith("json") else 2
        token = self._token.decode()
        if dumps is None:
            messages = [json.dumps({"event": "auth:login", "data": {"token": token}, "id": 1}).encode()]
            for _ in range(dice.randrange(8)):
                event = {"event": dice.choice(EVENTS), "data": self._value(4), "id": self._value(1)}
                messages.append(json.dumps(event).encode())
        else:
            hello = [1, "realtime", {"roles": {"caller": {}}, "authmethods": ["ticket"]}]
            told = [hello, [5, token, {}], *(self._message() for _ in range(dice.randrange(8)))]
            messages = [dumps(message) for message in told]
        messages = [*messages[:2], *map(self._mutated, messages[2:])]
        frames = [frame(message, opcode) for message in messages]
        frames += [self._frame() for _ in range(dice.randrange(3))]
        head = upgrade("/ws", Sec_WebSocket_Protocol=subprotocol)
        return Visit("PORT", [head, b"".join(frames)], len(frames))

    def _message(self) -> list[object]:
        """A message of WAMP, of any type."""
        dice = self._dice
        kind = dice.choice([3, 6, 8, 16, 16, 32, 32, 34, 48, 48, 49, 64, 66, 99])
        topic = dice.choice(["room.rubbish.message", "room.join", "room.message", "user.bob.x", "", "a b"])
        middle: object = {} if dice.random() < 0.7 else self._value(3)
        payload = {"roomId": "rubbish", **{dice.choice(FIELDS): self._value(3) for _ in range(3)}}
        whole = [kind, dice.randrange(100), middle, topic, [], payload]
        return whole[: dice.randrange(1, 7)] if dice.random() < 0.4 else whole

    def _polling(self) -> Visit:
        """A session by polling; SID in what is sent stands for its id."""
        dice = self._dice
        count = dice.randrange(1, 5)
        events = [b"\x1e".join([self._event(), self._event()]) for _ in range(dice.randrange(3))]
        posts = [self._connect_packet(), *events, *(self._packet() for _ in range(count))]
        path = POLLING + "&sid=SID"
        parts = [request("GET", POLLING)]
        for packet in posts:
            body = packet
            if dice.random() < 0.3:
                attachment = b"b" + dice.choice([b"AAEC", b"A", b"=", b"!"])
                body = b"\x1e".join([packet, self._packet(), attachment])
            parts.append(request("POST", path, body, Content_Type="text/plain;charset=UTF-8"))
        if dice.random() < 0.5:
            parts += [request("GET", path)] * dice.choice([1, 2])
        return Visit("PORT", parts, len(parts))

    # -- parts

    def _connect_packet(self) -> bytes:
        packet = b'40{"token":"%b"}' % self._token
        if self._dice.random() < 0.2:
            return self._mutated(b'40{"token":"%b","pid":"p","offset":"e.1:2"}' % self._token)
        return packet

    def _event(self) -> bytes:
        """An event that can be read, of any name and payload."""
        dice = self._dice
        args = [dice.choice(EVENTS), *(self._value(4) for _ in range(dice.choice([0, 1, 1, 1, 1, 1, 2])))]
        if dice.random() < 0.7 and len(args) > 1:
            args[1] = {"roomId": "rubbish", **{dice.choice(FIELDS): self._value(3) for _ in range(3)}}
        ack = dice.choice(["", "0", "7", "123456789"])
        return f"42{ack}{json.dumps(args, ensure_ascii=dice.random() < 0.5)}".encode("utf-8", "replace")

    def _value(self, depth: int) -> object:
        dice = self._dice
        how = dice.random()
        if depth and how < 0.15:
            return [self._value(depth - 1) for _ in range(dice.randrange(4))]
        if depth and how < 0.4:
            return {dice.choice(FIELDS): self._value(depth - 1) for _ in range(dice.randrange(5))}
        return dice.choice(VALUES)

    def _packet(self) -> bytes:
        dice = self._dice
        packet = dice.choice(PACKETS)
        if dice.random() < 0.1:
            return dice.randbytes(dice.randrange(200))
        return self._mutated(packet)

    def _frame(self) -> bytes:
        dice = self._dice
        payload = self._packet()
        how = dice.random()
        if how < 0.6:
            return frame(payload)
        if how < 0.75:
            return frame(dice.randbytes(dice.randrange(300)), 2)
        if how < 0.8:
            return frame(payload, final=False) + frame(payload, 0, final=dice.random() < 0.5)
        if how < 0.85:
            return frame(payload[:120], dice.choice([8, 9, 10]))
        if how < 0.9:
            return frame(payload, size=dice.choice([0, 1, 125, 126, 65535, 65536, 2**31, 2**63 - 1]))
        if how < 0.95:
            mask = dice.choice([None, b"\x00\x00\x00\x00"])
            return frame(payload, dice.randrange(16), reserved=dice.randrange(8), mask=mask)
        return dice.randbytes(dice.randrange(1, 200))

    def _mutated(self, data: bytes) -> bytes:
        """The bytes with no, one or a few changes."""
        dice = self._dice
        changed = bytearray(data)
        for _ in range(dice.choice([0, 1, 1, 2, 4])):
            at = dice.randrange(len(changed) + 1)
            end = min(len(changed), at + dice.randrange(1, 12))
            how = dice.randrange(6)
            if how == 0 and changed:
                changed[at - 1] ^= 1 << dice.randrange(8)
            elif how == 1:
                del changed[at:end]
            elif how == 2:
                changed[at:at] = dice.choice(NASTY)
            elif how == 3:
                changed[at:at] = changed[at:end] * dice.randrange(1, 20)
            elif how == 4:
                changed[at:end] = dice.randbytes(end - at)
            else:
                del changed[at:]
        return bytes(changed)

    def _cut_up(self, data: bytes) -> list[bytes]:
        """The bytes in one to three parts."""
        cuts = sorted(self._dice.randrange(len(data) + 1) for _ in range(self._dice.randrange(3)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
