from __future__ import annotations

import json

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import ProtocolError
from realtime.wire.engineio import (
    Fault,
    Packet,
    Query,
    Type,
    decode,
    decode_part,
    open_packet,
    parts,
    verify,
)

from ..generated import unhurried

PACKETS = [
    ("0{}", Packet(Type.OPEN, "{}")),
    ("1", Packet(Type.CLOSE)),
    ("2", Packet(Type.PING)),
    ("2probe", Packet(Type.PING, "probe")),
    ("3", Packet(Type.PONG)),
    ("4", Packet(Type.MESSAGE)),
    ("4hello", Packet(Type.MESSAGE, "hello")),
    ("4€", Packet(Type.MESSAGE, "€")),
    ("5", Packet(Type.UPGRADE)),
    ("6", Packet(Type.NOOP)),
]


class PacketTests(SynchronousTestCase):
    """Packets and payloads, as the protocol writes them."""

    def test_packets(self) -> None:
        for text, packet in PACKETS:
            self.assertEqual(decode(text), packet)
            self.assertEqual(decode_part(text), packet)

    def test_payload(self) -> None:
        payload = "\x1e".join(text for text, _ in PACKETS).encode()
        self.assertEqual([decode_part(part) for part in parts(payload)], [packet for _, packet in PACKETS])

    def test_binary(self) -> None:
        self.assertEqual(decode_part("bAQIDBA=="), Packet(Type.MESSAGE, b"\x01\x02\x03\x04"))
        self.assertEqual(decode_part("b"), Packet(Type.MESSAGE, b""))

    def test_wrong(self) -> None:
        for text in ("", "abc", "7", "bAQIDBA==", "\x1e", " 4"):
            self.assertRaises(ProtocolError, decode, text)
        for text in ("", "abc", "b!", "bAQIDBA", "bAQIDBA==\n", "bAQ==IDBA"):
            self.assertRaises(ProtocolError, decode_part, text)
        self.assertRaises(ProtocolError, parts, b"4\xff")

    def test_an_empty_payload_is_one_wrong_packet(self) -> None:
        self.assertEqual(list(parts(b"")), [""])

    def test_parts_are_cut_off_one_by_one(self) -> None:
        cut = parts(b"4a\x1e\x1e4b\x1e")
        self.assertEqual([next(cut), next(cut), next(cut), next(cut)], ["4a", "", "4b", ""])
        self.assertRaises(StopIteration, next, cut)

    def test_open(self) -> None:
        frame = open_packet("s", ("websocket",), 25.0, 0.2, 1000)
        self.assertEqual(frame.text[:1], b"0")
        self.assertEqual(
            json.loads(frame.text[1:]),
            {
                "sid": "s",
                "upgrades": ["websocket"],
                "pingInterval": 25000,
                "pingTimeout": 200,
                "maxPayload": 1000,
            },
        )

    @unhurried
    @given(strategies.binary(max_size=80))
    def test_any_bytes(self, body: bytes) -> None:
        try:
            for part in parts(body):
                self.assertIsInstance(decode_part(part), Packet)
        except ProtocolError as error:
            self.assertNotIn(str(body), error.message)


class QueryTests(SynchronousTestCase):
    """Query strings are read as a URL's search parameters."""

    def test_fields(self) -> None:
        self.assertEqual(
            Query.parse("EIO=4&transport=polling&sid=a%20b+c&token=t&t=x"),
            Query("polling", "4", "a b c", "t"),
        )

    def test_the_last_counts(self) -> None:
        self.assertEqual(Query.parse("EIO=3&EIO=4&sid=x&sid="), Query("", "4", ""))

    def test_very_many(self) -> None:
        self.assertEqual(Query.parse("&".join(["a=b"] * 5000 + ["EIO=4"])).version, "")

    @unhurried
    @given(strategies.text(max_size=80))
    def test_anything(self, text: str) -> None:
        self.assertIsInstance(Query.parse(text), Query)


class VerifyTests(SynchronousTestCase):
    """Requests are judged in the order of the reference server."""

    def check(
        self,
        expected: Fault | None,
        query: str,
        *,
        method: str = "GET",
        upgrade: bool = False,
        session: str | None = None,
        allowed: bool = True,
    ) -> None:
        fault = verify(Query.parse(query), method=method, upgrade=upgrade, session=session, allowed=allowed)
        self.assertIs(fault, expected, (query, method, upgrade, session))

    def test_good(self) -> None:
        self.check(None, "EIO=4&transport=polling")
        self.check(None, "EIO=4&transport=polling&sid=")
        self.check(None, "EIO=4&transport=websocket", upgrade=True)
        self.check(None, "EIO=4&transport=polling&sid=s", session="polling")
        self.check(None, "EIO=4&transport=polling&sid=s", session="polling", method="POST")
        self.check(None, "EIO=4&transport=websocket&sid=s", session="polling", upgrade=True)
        self.check(None, "EIO=4&transport=websocket&sid=s", session="websocket", upgrade=True)

    def test_order(self) -> None:
        wrong = {"method": "PUT", "upgrade": False, "allowed": False}
        self.check(Fault.UNKNOWN_TRANSPORT, "transport=webtransport&sid=s", **wrong)  # type: ignore[arg-type]
        self.check(Fault.FORBIDDEN, "transport=polling&sid=s", **wrong)  # type: ignore[arg-type]
        self.check(Fault.UNKNOWN_SID, "transport=polling&sid=s", method="PUT")
        self.check(Fault.BAD_REQUEST, "transport=polling&sid=s", method="PUT", session="polling")
        self.check(Fault.BAD_HANDSHAKE_METHOD, "transport=websocket", method="POST")
        self.check(Fault.BAD_REQUEST, "transport=websocket")
        self.check(Fault.UNSUPPORTED_VERSION, "transport=polling")

    def test_versions(self) -> None:
        for version in ("", "3", "5", "abc", "04"):
            self.check(Fault.UNSUPPORTED_VERSION, f"EIO={version}&transport=polling")
            self.check(Fault.BAD_REQUEST, f"EIO={version}&transport=polling&sid=s", session="polling")

    def test_transports_that_do_not_match(self) -> None:
        self.check(Fault.BAD_REQUEST, "EIO=4&transport=websocket&sid=s", session="polling")
        self.check(Fault.BAD_REQUEST, "EIO=4&transport=polling&sid=s", session="websocket")
        self.check(Fault.BAD_REQUEST, "EIO=4&transport=polling&sid=s", session="polling", upgrade=True)
        self.check(Fault.BAD_REQUEST, "EIO=4&transport=polling", upgrade=True)

    def test_answers(self) -> None:
        table = {
            Fault.UNKNOWN_TRANSPORT: (400, 0, "Transport unknown"),
            Fault.UNKNOWN_SID: (400, 1, "Session ID unknown"),
            Fault.BAD_HANDSHAKE_METHOD: (400, 2, "Bad handshake method"),
            Fault.BAD_REQUEST: (400, 3, "Bad request"),
            Fault.FORBIDDEN: (403, 4, "Forbidden"),
            Fault.UNSUPPORTED_VERSION: (400, 5, "Unsupported protocol version"),
        }
        self.assertEqual(set(table), set(Fault))
        for fault, (status, code, message) in table.items():
            self.assertEqual(fault.status, status)
            self.assertEqual(json.loads(fault.body), {"code": code, "message": message})
