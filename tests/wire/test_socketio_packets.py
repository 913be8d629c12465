"""Tests for realtime.wire.socketio_packets: literal packets in both directions."""

from __future__ import annotations

import json
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import ProtocolError
from realtime.wire.socketio_packets import (
    ACK,
    CONNECT,
    CONNECT_ERROR,
    DISCONNECT,
    EVENT,
    MAX_ACK,
    Packet,
    PacketReader,
    decode,
    encode,
)

P0 = '{"_placeholder":true,"num":0}'
P1 = '{"_placeholder":true,"num":1}'

#: Frames, and the type, namespace, acknowledgement id, payload and attachments that they mean.
#: What stands here is decoded and encoded.
PACKETS: list[tuple[list[str | bytes], int, str, int | None, str]] = [
    (["0"], CONNECT, "/", None, ""),
    (['0{"token":"123"}'], CONNECT, "/", None, '{"token":"123"}'),
    (["0/custom,"], CONNECT, "/custom", None, ""),
    (['0/custom,{"a":1}'], CONNECT, "/custom", None, '{"a":1}'),
    (["1"], DISCONNECT, "/", None, ""),
    (["1/custom,"], DISCONNECT, "/custom", None, ""),
    (['2["foo"]'], EVENT, "/", None, '["foo"]'),
    (['2["foo",1,"2",{"3":[true]}]'], EVENT, "/", None, '["foo",1,"2",{"3":[true]}]'),
    (["2[42]"], EVENT, "/", None, "[42]"),
    (['2/admin,["bar"]'], EVENT, "/admin", None, '["bar"]'),
    (['212["foo"]'], EVENT, "/", 12, '["foo"]'),
    (['20["foo"]'], EVENT, "/", 0, '["foo"]'),
    ([f'2{MAX_ACK}["foo"]'], EVENT, "/", MAX_ACK, '["foo"]'),
    (['2/ж/ω?a=b,7["жук"]'], EVENT, "/ж/ω?a=b", 7, '["жук"]'),
    (["312[]"], ACK, "/", 12, "[]"),
    (['3/admin,13["bar"]'], ACK, "/admin", 13, '["bar"]'),
    (['4{"message":"Not authorized"}'], CONNECT_ERROR, "/", None, '{"message":"Not authorized"}'),
    (['4/admin,{"message":"no"}'], CONNECT_ERROR, "/admin", None, '{"message":"no"}'),
    ([f'51-["baz",{P0}]', b"\x01\x02"], EVENT, "/", None, f'["baz",{P0}]'),
    ([f'52-/admin,["baz",{P0},{P1}]', b"\x01", b""], EVENT, "/admin", None, f'["baz",{P0},{P1}]'),
    ([f'51-/a,14["baz",{P0}]', b"x"], EVENT, "/a", 14, f'["baz",{P0}]'),
    ([f"61-15[{P0}]", b"\x01"], ACK, "/", 15, f"[{P0}]"),
    ([f"61-/a,15[{P0}]", b"\x01"], ACK, "/a", 15, f"[{P0}]"),
]

#: Other spellings that the reference takes too.
ALSO_DECODED: list[tuple[str, str]] = [
    ("0/custom", "0/custom,"),
    ("1/custom", "1/custom,"),
    ("0/,", "0"),
    ("0/", "0"),
    ('2/,["a"]', '2["a"]'),
    ('2007["a"]', '27["a"]'),
]

REFUSED = [
    *("", "a", "abc", "7", "9[]", "-1", "x0", " 0", "٢[]", "\ud800"),
    # Events have a payload, an array that begins with a name.
    *("2", "21", "2/custom", "2/custom,", "2/custom,1", "2{}", "2[]", '2"a"', "2null", "21234"),
    *("2[null]", "2[{}]", '2[["a"]]', "2[true]", '2["a"', '2["a"]x', "2[NaN]", '2["a",]', '2["\\ud800"]'),
    *(f'2["{name}"]' for name in ("connect", "connect_error", "disconnect", "disconnecting")),
    *('2["newListener"]', '2["removeListener"]', '2["\\u0063onnect"]'),
    *('2["' + "n" * 257 + '"]', "2[" + "1" * 257 + "]"),
    # Acknowledgement ids are whole numbers below 2^53.
    *('2abc["a"]', '2-1["a"]', '21.5["a"]', '21e3["a"]', '2 1["a"]', '2٣["a"]', '2+1["a"]'),
    *(f'2{2**53}["a"]', '2999999999999999999["a"]', "2" + "1" * 5000 + '["a"]'),
    *("3[]", '3["a"]', "31", "31{}", "31null", '31"a"', "3", "3/custom,"),
    # CONNECT carries an object or nothing, DISCONNECT nothing, neither an id.
    *("0[]", '0"token"', "0null", "01", "0{", "0{}{}", '01{"a":1}', "0/custom,[1]", "0/custom,5{}"),
    *("1{}", "1[]", "1null", "12", "1/custom,{}", "1 "),
    *("4", "4[]", '4"no"', '41{"message":"no"}'),
    # Attachments.
    *("5", "5[]", '5["a"]', '5-["a"]', f'50-["a",{P0}]', f'5-1-["a",{P0}]', f'51["a",{P0}]', "51"),
    *(f'511-["a",{P0}]', f'5999999-["a",{P0}]', f'51.0-["a",{P0}]', f'51e0-["a",{P0}]'),
    *('51-["a"]', f'51-["a",{P1}]', f'51-["a",{P0},{P0}]', f'52-["a",{P0}]', "51-[]", "51-{}"),
    *('51-["a",{"_placeholder":true,"num":"0"}]', '51-["a",{"_placeholder":true,"num":-1}]'),
    *('51-["a",{"_placeholder":true,"num":0.5}]', '51-["a",{"_placeholder":true}]'),
    *(f"61-[{P0}]", f"61-1{P0}", f'21-["a",{P0}]', "01-{}", f"31-1[{P0}]", f'51-["connect",{P0}]'),
    "511-" + json.dumps(["a", *({"_placeholder": True, "num": number} for number in range(11))]),
    # Namespaces.
    *("0custom", "0custom,", '2custom,["a"]', "0/a\x1eb,", "0/a\nb", "0/" + "n" * 128 + ",", "0/\ud800,"),
    # Depth.
    "2" + "[" * 100_000,
    '2["a",' + "[" * 100_000 + "]" * 100_000 + "]",
    '0{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    '0{"a":' + "[" * 40 + "]" * 40 + "}",
    '51-["a",' + "[" * 40 + P0 + "]" * 40 + "]",
]


def read(*frames: str | bytes, max_bytes: int = 1000) -> list[Packet | None]:
    reader = PacketReader(max_bytes)
    return [reader.receive(frame) for frame in frames]


class DecodeTests(SynchronousTestCase):
    def test_the_table(self) -> None:
        for frames, type_, namespace, ack, payload in PACKETS:
            *before, packet = read(*frames)
            self.assertEqual(before, [None] * len(before))
            assert packet is not None
            self.assertEqual(
                (packet.type, packet.namespace, packet.ack, packet.payload, packet.attachments),
                (type_, namespace, ack, payload, tuple(frames[1:])),
                frames,
            )

    def test_other_spellings(self) -> None:
        for text, plain in ALSO_DECODED:
            self.assertEqual(parts(decode(text)[0]), parts(decode(plain)[0]), text)

    def test_refuses(self) -> None:
        for text in REFUSED:
            with self.assertRaises(ProtocolError, msg=text[:60]):
                decode(text)

    def test_splits_an_event_and_keeps_its_values_raw(self) -> None:
        packet, attachments = decode('2["a", 1.10 ,{"b" : 1}]')
        self.assertEqual(packet.name, "a")
        self.assertEqual([bytes(value) for value in packet.arguments], [b"1.10", b'{"b" : 1}'])
        self.assertEqual(attachments, 0)

    def test_names(self) -> None:
        for text, name in [
            ('2["room:message"]', "room:message"),
            ('2["\\u0061\\n\\u0436"]', "a\nж"),
            ('2[""]', ""),
            ("2[-1.50]", "-1.50"),
            ('2["' + "n" * 256 + '"]', "n" * 256),
        ]:
            self.assertEqual(decode(text)[0].name, name)

    def test_no_message_repeats_what_came(self) -> None:
        for text in ['2["secret"', '0{"token":"secret"', '2secret["a"]', '51-["a","secret"]']:
            error = self.assertRaises(ProtocolError, decode, text)
            self.assertNotIn("secret", str(error))


def parts(packet: Packet) -> tuple[object, ...]:
    raw = [bytes(value) for value in packet.arguments]
    return (packet.type, packet.namespace, packet.ack, packet.payload, packet.name, raw)


class ReaderTests(SynchronousTestCase):
    def test_packets_follow_each_other(self) -> None:
        frames: list[str | bytes] = ['2["a"]', f'52-["b",{P0},{P1}]', b"1", b"2", f"61-3[{P0}]", b"3", "1"]
        packets = read(*frames)
        kinds = [None if packet is None else packet.type for packet in packets]
        self.assertEqual(kinds, [EVENT, None, None, EVENT, None, ACK, DISCONNECT])
        assert packets[3] is not None and packets[5] is not None
        self.assertEqual(packets[3].attachments, (b"1", b"2"))
        self.assertEqual(packets[5].attachments, (b"3",))

    def test_text_while_attachments_are_awaited(self) -> None:
        for frames in [[f'51-["a",{P0}]', '2["b"]'], [f'52-["a",{P0},{P1}]', b"1", ""]]:
            self.assertRaises(ProtocolError, read, *frames)

    def test_binary_that_nothing_announced(self) -> None:
        self.assertRaises(ProtocolError, read, b"x")
        self.assertRaises(ProtocolError, read, '2["a"]', b"x")
        self.assertRaises(ProtocolError, read, f'51-["a",{P0}]', b"x", b"y")

    def test_all_parts_of_a_packet_count_against_its_limit(self) -> None:
        head = f'52-["ж",{P0},{P1}]'
        size = len(head.encode()) + 10
        self.assertIsNotNone(read(head, b"12345", b"12345", max_bytes=size)[-1])
        self.assertRaises(ProtocolError, read, head, b"12345", b"12345", max_bytes=size - 1)

    def test_the_limit_is_of_one_packet(self) -> None:
        frames = [f'51-["a",{P0}]', b"x" * 900] * 3
        self.assertEqual([packet is None for packet in read(*frames)], [True, False] * 3)


class EncodeTests(SynchronousTestCase):
    def test_the_table(self) -> None:
        for frames, type_, namespace, ack, payload in PACKETS:
            attachments = [frame for frame in frames if isinstance(frame, bytes)]
            frame = encode(type_, namespace, payload.encode(), ack, attachments)
            self.assertEqual([frame.text.decode(), *frame.attachments], [f"4{frames[0]}", *frames[1:]])

    def test_every_pair_of_packets_can_follow_on_one_reader(self) -> None:
        for (first, *_), (second, *expected) in pairwise(PACKETS):
            packet = read(*first, *second)[-1]
            assert packet is not None
            self.assertEqual([packet.type, packet.namespace, packet.ack, packet.payload], expected)
