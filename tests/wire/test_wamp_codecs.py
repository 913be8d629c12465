"""Tests for realtime.wire.wamp_codecs: payloads go through each serializer and come out the same."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import msgpack
import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import ProtocolError
from realtime.wire import cbor
from realtime.wire.rawjson import FORBIDDEN_KEYS
from realtime.wire.wamp_codecs import CODECS, MAX_MSGPACK, MAX_VALUES, Codec, Unfit

from ..generated import unhurried

LOADS = {
    "wamp.2.json": lambda frame: json.loads(frame.text),
    "wamp.2.cbor": lambda frame: cbor2.loads(frame.attachments[0]),
    "wamp.2.msgpack": lambda frame: msgpack.unpackb(frame.attachments[0]),
}
DUMPS = {"wamp.2.json": json.dumps, "wamp.2.cbor": cbor2.dumps, "wamp.2.msgpack": msgpack.packb}
KEYS = st.text().filter(lambda key: key not in FORBIDDEN_KEYS)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


class CodecTests(SynchronousTestCase):
    def each(self) -> list[tuple[Codec, Any, Any]]:
        return [(codec, DUMPS[codec.subprotocol], LOADS[codec.subprotocol]) for codec in CODECS]

    @unhurried
    @given(st.dictionaries(KEYS, JSON, max_size=4))
    def test_payloads(self, payload: dict[str, Any]) -> None:
        """From a client to raw JSON, and from raw JSON to a client."""
        for codec, dumps, loads in self.each():
            elements = codec.parse(dumps([16, 1, {}, "a.b", [], payload]))
            self.assertEqual(elements[:4], [16, 1, {}, "a.b"])
            data = codec.payload(elements[5]).data
            self.assertEqual(msgspec.json.decode(data), payload)
            event = loads(codec.event(7, 8, {"topic": "t"}, codec.body(data)))
            self.assertEqual(event, [36, 7, 8, {"topic": "t"}, [], payload])
            self.assertEqual(loads(codec.frame((50, 1, {}), b"[1]")), [50, 1, {}, [1]])
            self.assertEqual(loads(codec.frame((35, 6))), [35, 6])

    def test_binary(self) -> None:
        """Bytes become ``{"$binary": base64}``, and are noted."""
        for codec, dumps, _ in self.each()[1:]:
            payload = codec.payload(codec.parse(dumps([48, 1, {}, "a", [b"\x00\xff"]]))[4])
            self.assertEqual((payload.data, payload.binary), (b'[{"$binary":"AP8="}]', True))
        payload = CODECS[0].payload(msgspec.Raw(b'{"$binary":"AP8="}'))
        self.assertTrue(payload.binary)

    def test_what_can_not_travel(self) -> None:
        """Numbers that JSON lacks, keys that are no text, extension types, and what is too deep."""
        deep: Any = 1
        for _ in range(40):
            deep = [deep]
        for value in (float("nan"), float("inf"), deep):
            for codec, dumps, _ in self.each():
                with self.assertRaises((ProtocolError, Unfit), msg=(codec.subprotocol, value)):
                    codec.payload(codec.parse(dumps([48, 1, {}, "a", [value]]))[4])
        for value in ({1: 2}, {b"x": 2}, msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)):
            with self.assertRaises(ProtocolError):
                CODECS[2].payload(CODECS[2].parse(msgpack.packb([48, 1, {}, "a", [value]]))[4])
        elements = CODECS[1].parse(cbor2.dumps([1, 1, {}, "a", {"a": cbor2.undefined}]))
        self.assertEqual(CODECS[1].payload(elements[4]).data, b'{"a":null}')

    def test_many_values(self) -> None:
        """The binary serializers take so many values; JSON needs no such bound."""
        for codec, dumps, _ in self.each():
            for count, taken in [(MAX_VALUES - 1, True), (MAX_VALUES, codec is CODECS[0])]:
                element = codec.parse(dumps([48, 1, {}, "a", [0] * count]))[4]
                if taken:
                    self.assertEqual(codec.payload(element).data.count(b"0"), count)
                else:
                    self.assertRaises(ProtocolError, codec.payload, element)

    def test_keys_that_are_no_data(self) -> None:
        for codec, dumps, _ in self.each():
            payload = codec.payload(codec.parse(dumps([48, 1, {}, "a", [], {"__proto__": 1, "b": 2}]))[5])
            self.assertEqual(payload.data, b'{"b":2}')

    def test_no_messages(self) -> None:
        for codec, dumps, _ in self.each():
            for value in ({}, 5, "x", None):
                with self.assertRaises(ProtocolError):
                    codec.parse(dumps(value))
            with self.assertRaises(ProtocolError):
                codec.parse(b"x" if codec is CODECS[0] else "x")

    def test_too_large(self) -> None:
        """The binary serializers take little; the request is known, so that it can be answered."""
        for codec, most in ((CODECS[1], cbor.MAX_BYTES), (CODECS[2], MAX_MSGPACK)):
            dumps = DUMPS[codec.subprotocol]
            with self.assertRaises(Unfit) as caught:
                codec.parse(dumps([16, 2**40, {}, "a", ["x" * most]]))
            self.assertEqual(caught.exception.head, [16, 2**40])
            for rubbish in (b"\xff" * (most + 1), dumps(["x" * most] * 3), b"\x00" * (most + 1)):
                with self.assertRaises(ProtocolError):
                    codec.parse(rubbish)

    def test_text_that_is_no_unicode(self) -> None:
        """A lone surrogate spoils one message, not the connection."""
        with self.assertRaises(Unfit) as caught:
            CODECS[0].parse('[48,7,{},"a",["\\ud83d"]]')
        self.assertEqual(caught.exception.head, [48, 7])

    def test_numbers_of_services(self) -> None:
        """What JSON can say and MessagePack can't becomes a float."""
        for codec, _, loads in self.each():
            event = loads(codec.event(1, 1, {}, codec.body(b'{"n":1000000000000000000000000}')))
            self.assertEqual(float(event[5]["n"]), 1e24)

    def test_what_only_json_can_say(self) -> None:
        """Large integers and halves of surrogate pairs give way; nothing fails over them."""
        payload = b'{"a":[1e400,%b,-%b],"t\\ud83d":"\\ud83d"}' % (b"9" * 5000, b"9" * 400)
        for codec, _, loads in self.each()[1:]:
            told = loads(codec.event(1, 1, {}, codec.body(payload)))[5]
            infinite = float("inf")
            self.assertEqual(told, {"a": [infinite, infinite, -infinite], "t?": "?"}, codec.subprotocol)
