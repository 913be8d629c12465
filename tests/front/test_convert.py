"""Tests for realtime.front: messages to JSON and back, and what goes over the pipe."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.front import pipe
from realtime.front.convert import NotJson, fill, to_json
from realtime.ingress.verbs import VERBS
from realtime.v1 import realtime_pb2 as pb

from ..generated import unhurried


class ConvertTests(SynchronousTestCase):
    def test_raw_json(self) -> None:
        """Bytes stay as they were written; what is not set is not there."""
        made = to_json(pb.PublishRequest(channel="system:x", data=b'{"price": 1.50}'))
        self.assertEqual(made, b'{"channel":"system:x","data":{"price": 1.50}}')
        asked = VERBS["publish"].decode(made)
        self.assertEqual(bytes(asked.data), b'{"price": 1.50}')

    def test_set_to_nothing(self) -> None:
        """An option that is set to its zero is there: the verb judges it."""
        made = to_json(pb.PublishRequest(channel="a", data=b"1", ttl=0, message_id=""))
        self.assertEqual(json.loads(made), {"channel": "a", "data": 1, "ttl": 0, "messageId": ""})

    @unhurried
    @given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
    def test_nothing_gets_around(self, data: bytes) -> None:
        """Whatever the bytes are, they are one value of one field, or refused."""
        request = pb.PublishRequest(channel="a", data=data, ttl=5)
        try:
            made = json.loads(to_json(request))
        except NotJson:
            return
        self.assertEqual(made, {"channel": "a", "data": json.loads(data), "ttl": 5})

    def test_around_it(self) -> None:
        for data in (b'{},"ttl":5', b"1 2", b'1,"a":2', b"", b"[" * 100_000, b'"\xff"', b"{}}"):
            self.assertRaises(NotJson, to_json, pb.PublishRequest(channel="a", data=data))

    def test_every_message(self) -> None:
        """What a verb is asked with, as JSON names it, comes back as it went."""
        told = {"audience": {"everyone": False, "users": ["a"]}, "event": "e", "exclude": {"users": ["b"]}}
        told["data"] = {"x": [1, "é"]}
        message = fill(pb.BroadcastRequest(), json.dumps(told).encode())
        self.assertEqual(json.loads(to_json(message)), told)
        answer = {"transports": {"websocket": 2}, "connections": 3, "users": 2}
        message = fill(pb.CountResponse(), json.dumps(answer).encode())
        self.assertEqual(json.loads(to_json(message)), answer)
        page = fill(pb.RoomsResponse(), b'{"rooms":[{"roomId":"a","users":1}],"next":null}')
        self.assertFalse(page.HasField("next"))

    def test_fields_of_verbs(self) -> None:
        """Every field of a verb has its place in the method's messages."""
        methods = {method.name: method for method in pb.DESCRIPTOR.services_by_name["Realtime"].methods}
        for name, verb in VERBS.items():
            method = methods["".join(part.capitalize() for part in name.split("_"))]
            for kind, struct in ((method.input_type, verb.request), (method.output_type, verb.answer)):
                self.assertEqual(
                    {field.name for field in kind.fields},
                    set(struct.__struct_fields__),
                    f"{name}: {kind.name}",
                )


class PipeTests(SynchronousTestCase):
    @unhurried
    @given(st.lists(st.binary(max_size=30), max_size=5), st.integers(1, 7))
    def test_pieces(self, keys: list[bytes], size: int) -> None:
        """Messages are whole, and in order, however the pipe cuts them."""
        sent = [pipe.Ask(n, "info", key, "peer", b"{}") for n, key in enumerate(keys)]
        data = b"".join(map(pipe.framed, sent))
        unframer = pipe.Unframer()
        got = [body for at in range(0, len(data), size) for body in unframer.feed(data[at : at + size])]
        self.assertEqual([pipe.DECODE_FROM_FRONT(body) for body in got], sent)

    def test_too_large(self) -> None:
        self.assertRaises(ValueError, pipe.Unframer().feed, b"\xff\xff\xff\xff")
