"""Tests for realtime.wire.socketio: the session of the application, frame by frame."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.errors import ExpiredToken, ProtocolError, RateLimited, RealtimeError
from realtime.messages import (
    Acknowledged,
    Audience,
    Command,
    Connect,
    Disconnect,
    Event,
    Position,
    Publication,
    Sequence,
)
from realtime.wire.session import Frame, ISession, Send
from realtime.wire.socketio import SocketIOSession
from realtime.wire.socketio_packets import RESERVED_EVENTS

from ..generated import unhurried

P0 = '{"_placeholder":true,"num":0}'
P1 = '{"_placeholder":true,"num":1}'
SEQUENCE = Sequence("abc", 2, 17)


def fresh(max_bytes: int = 1000) -> SocketIOSession:
    return SocketIOSession(max_bytes)


def session(auth: str = "") -> SocketIOSession:
    """One whose client is connected."""
    made = fresh()
    made.receive(f"0{auth}")
    made.connected("s", "p")
    return made


def publication(data: bytes = b'{"a":1}', **fields: Any) -> Publication:
    return Publication("room:message", data, Audience(everyone=True), "id", 5, **fields)


def parts(frame: Frame) -> list[bytes]:
    return [frame.text, *frame.attachments]


class ConnectTests(SynchronousTestCase):
    def test_provides_the_interface(self) -> None:
        self.assertTrue(verifyObject(ISession, fresh()))

    def test_what_auth_says(self) -> None:
        longest = "p" * 128
        for auth, expected in [
            ("", Connect()),
            ("{}", Connect()),
            ('{"token":"t"}', Connect("t")),
            ('{"token":"Bearer t"}', Connect("Bearer t")),
            ('{"token":null,"pid":null,"offset":null,"recovery":null}', Connect()),
            ('{"token":"t","pid":"p","offset":"e.1:2","recovery":false}', Connect("t")),
            ('{"pid":"p","offset":"e.1:2","token":"t","user":{"x":[1]}}', Connect("t", "p", "e.1:2")),
            ('{"token":"a","token":"b"}', Connect("b")),
            # What can't be a pid or an offset is as good as none.
            ('{"token":"t","pid":5,"offset":["e"]}', Connect("t")),
            ('{"pid":"","offset":""}', Connect()),
            (json.dumps({"pid": longest, "offset": longest}), Connect(None, longest, longest)),
            (json.dumps({"pid": longest + "p", "offset": longest + "p"}), Connect()),
        ]:
            self.assertEqual(fresh().receive(f"0{auth}"), [expected], auth)

    def test_a_token_that_is_no_text_is_refused_for_good(self) -> None:
        for token in ["5", "true", "{}", '["t"]']:
            made = fresh()
            (answer,) = made.receive(f'0{{"token":{token}}}')
            assert isinstance(answer, Send)
            self.assertEqual(
                answer.frame.text,
                b'44{"message":"the token is text",'
                b'"data":{"code":"auth.token_invalid","message":"the token is text"}}',
            )
            self.assertEqual(made.receive('0{"token":"t"}'), [Connect("t")])

    def test_auth_that_is_no_object(self) -> None:
        for auth in ["[]", '"t"', "null", "5", '{"token":"t"', '{"a":1e999}', '{"token":"\\ud800"}']:
            self.assertRaises(ProtocolError, fresh().receive, f"0{auth}")

    def test_connected(self) -> None:
        made = fresh()
        made.receive("0")
        self.assertEqual(
            parts(made.connected("the-sid", "the-pid")), [b'40{"sid":"the-sid","pid":"the-pid"}']
        )

    def test_refused(self) -> None:
        made = fresh()
        made.receive("0")
        self.assertEqual(
            parts(made.refused(ExpiredToken())),
            [
                b'44{"message":"the token has expired",'
                b'"data":{"code":"auth.token_expired","message":"the token has expired"}}'
            ],
        )
        self.assertRaises(ProtocolError, made.receive, '2["a"]')

    def test_refused_with_a_time(self) -> None:
        frame = fresh().refused(RateLimited('say "when"', retry_after=1.5))
        self.assertEqual(
            json.loads(frame.text[2:]),
            {
                "message": 'say "when"',
                "data": {"code": "rate.limited", "message": 'say "when"', "retryAfter": 1500},
            },
        )

    def test_a_refused_client_may_try_again(self) -> None:
        made = fresh()
        made.receive("0")
        made.refused(RealtimeError())
        self.assertEqual(made.receive('0{"token":"t"}'), [Connect("t")])

    def test_unknown_namespaces_are_answered_by_the_protocol(self) -> None:
        for made in (fresh(), session()):
            (answer,) = made.receive("0/admin,{}")
            assert isinstance(answer, Send)
            self.assertEqual(parts(answer.frame), [b'44/admin,{"message":"Invalid namespace"}'])

    def test_events_before_connect_and_while_the_answer_is_awaited(self) -> None:
        made = fresh()
        self.assertRaises(ProtocolError, made.receive, '2["a"]')
        made = fresh()
        made.receive("0")
        self.assertRaises(ProtocolError, made.receive, '2["a"]')

    def test_connect_twice(self) -> None:
        self.assertRaises(ProtocolError, session().receive, "0")


class EventTests(SynchronousTestCase):
    def test_text_events(self) -> None:
        for frame, expected in [
            ('2["room:join",{"roomId":"event:42"}]', Event("room:join", b'{"roomId":"event:42"}')),
            ('217["a",{"b" : 1.10}]', Event("a", b'{"b" : 1.10}', 17)),
            ('20["a",{}]', Event("a", b"{}", 0)),
            ('2["a"]', Event("a", b"{}")),
            ('25["a"]', Event("a", b"{}", 5)),
            ('2["a",[1],"more",{"and":"more"}]', Event("a", b"[1]")),
            ('2["a",null]', Event("a", b"null")),
            ('2["a","text"]', Event("a", b'"text"')),
            ('2["жук",{"ж":"\U0001f600"}]', Event("жук", '{"ж":"\U0001f600"}'.encode())),
            ("2[7,{}]", Event("7", b"{}")),
            ('2["a",{"x":1,"x":2}]', Event("a", b'{"x":1,"x":2}')),
            ('2["a",{"__proto__":{"x":1},"y":2}]', Event("a", b'{"y":2}')),
            # Without attachments a placeholder is data.
            (f'2["a",{P0}]', Event("a", P0.encode())),
            # What nobody reads is not judged.
            ('2["a",{},{"__proto__":1e999}]', Event("a", b"{}")),
        ]:
            self.assertEqual(session().receive(frame), [expected], frame)

    def test_binary_events(self) -> None:
        for frames, expected in [
            ([f'51-["a",{P0}]', b"\x00\xff"], Event("a", b'{"$binary":"AP8="}', None, True)),
            (
                [f'52-7["a",{{"x":{P1},"y":[{P0}]}}]', b"xyz", b""],
                Event("a", b'{"x":{"$binary":""},"y":[{"$binary":"eHl6"}]}', 7, True),
            ),
            ([f'51-["a",{{"x": 1.0}},{P0}]', b"xyz"], Event("a", b'{"x": 1.0}')),
            ([f'51-["a",{{"__proto__":{P0}}}]', b"xyz"], Event("a", b"{}", None, True)),
        ]:
            made = session()
            for frame in frames[:-1]:
                self.assertEqual(made.receive(frame), [])
            self.assertEqual(made.receive(frames[-1]), [expected], frames)

    def test_refused(self) -> None:
        for frame in [
            *('2["a"', "2{}", "2", '2abc["a"]', '2["connect",{}]', '2["disconnecting"]', "31", '2/x,["a"]'),
            '51-["a"]',
            '2["\\ud800"]',
            b"x",
            "",
        ]:
            self.assertRaises(ProtocolError, session().receive, frame)

    def test_unusable_payload(self) -> None:
        """What is right in grammar and can't be carried is an event to refuse, not a broken protocol."""
        for argument in (
            '{"n":1e999}',
            '{"n":18446744073709551616}',
            "[" * 33 + "]" * 33,
            '"\\ud800"',
            '"\ud800"',
        ):
            (event,) = session().receive(f'27["a",{argument}]')
            assert isinstance(event, Event)
            self.assertEqual((event.name, event.data, event.ack), ("a", b"{}", 7))
            self.assertTrue(event.fault)

    def test_unusable_payload_with_attachments(self) -> None:
        """The attachments are taken, and dropped."""
        made = session()
        self.assertEqual(made.receive(f'51-7["a","\ud800",{P0}]'), [])
        (event,) = made.receive(b"x")
        assert isinstance(event, Event)
        self.assertEqual((event.name, event.data, event.ack, event.binary), ("a", b"{}", 7, False))
        self.assertTrue(event.fault)
        self.assertEqual(made.receive('2["b"]'), [Event("b", b"{}")])

    def test_a_packet_over_the_limit(self) -> None:
        made = session()
        made.receive(f'51-["a",{P0}]')
        self.assertRaises(ProtocolError, made.receive, b"x" * 1000)

    def test_acknowledgements(self) -> None:
        """Whether one is awaited, the session does not know."""
        made = session()
        for number in range(100):
            self.assertEqual(made.receive(f"3{number}[1]"), [Acknowledged(number)])
        self.assertEqual(made.receive(f"61-5[{P0}]"), [])
        self.assertEqual(made.receive(b"x"), [Acknowledged(5)])

    def test_disconnect(self) -> None:
        made = session()
        self.assertEqual(made.receive("1"), [Disconnect()])
        self.assertRaises(ProtocolError, made.receive, '2["a"]')

    def test_connect_again_after_disconnect(self) -> None:
        made = session('{"recovery":false}')
        made.receive("1")
        before = made.encoding
        self.assertEqual(made.receive("0"), [Connect()])
        # What is sent until the answer is shared with others of the encoding that it had.
        self.assertEqual(made.encoding, before)
        made.connected("s", "p")
        self.assertEqual(made.encoding, session().encoding)

    def test_after_the_server_has_disconnected(self) -> None:
        made = session()
        self.assertEqual(parts(made.disconnected()), [b"41"])
        self.assertRaises(ProtocolError, made.receive, '2["a"]')


class EncodeTests(SynchronousTestCase):
    def test_with_its_place_where_it_has_one(self) -> None:
        made = session()
        self.assertEqual(
            parts(made.encode(publication(sequence=SEQUENCE))), [b'42["room:message",{"a":1},"abc.2:17"]']
        )
        self.assertEqual(parts(made.encode(publication())), [b'42["room:message",{"a":1}]'])

    def test_without_recovery_there_is_no_place(self) -> None:
        made = session('{"recovery":false}')
        self.assertEqual(
            parts(made.encode(publication(sequence=SEQUENCE))), [b'42["room:message",{"a":1}]']
        )
        self.assertEqual(parts(made.event("a", b"{}", SEQUENCE)), [b'42["a",{}]'])

    def test_only_false_turns_recovery_off(self) -> None:
        for value in ["true", "null", "0", '""', '"false"']:
            frame = session(f'{{"recovery":{value}}}').encode(publication(sequence=SEQUENCE))
            self.assertTrue(frame.text.endswith(b',"abc.2:17"]'), value)

    def test_equal_encodings_are_equal_frames(self) -> None:
        kinds = ["", '{"recovery":true}', '{"recovery":false}', '{"recovery":false,"token":"t"}']
        frames = {}
        for made in map(session, kinds):
            frame = frames.setdefault(made.encoding, made.encode(publication(sequence=SEQUENCE)))
            self.assertEqual(frame.text, made.encode(publication(sequence=SEQUENCE)).text)
        self.assertEqual(len(frames), 2)

    def test_fields_are_spliced(self) -> None:
        spliced = publication(
            splice=("id", "timestamp", "offset"), position=Position(3, "e"), sequence=SEQUENCE
        )
        self.assertEqual(
            parts(session().encode(spliced)),
            [b'42["room:message",{"a":1,"id":"id","timestamp":5,"offset":3},"abc.2:17"]'],
        )

    def test_the_payload_is_not_rewritten(self) -> None:
        raw = '{"a" : 1.10, "$binary":"eHl6", "ж":"\\u0436"}'.encode()
        self.assertEqual(session().encode(publication(raw)).text, b'42["room:message",' + raw + b"]")
        literal = b'{"a":{"$binary":"eHl6"}}'
        self.assertEqual(
            parts(session().encode(publication(literal))), [b'42["room:message",' + literal + b"]"]
        )

    def test_binary(self) -> None:
        raw = b'{"a":{"$binary":"eHl6"},"b":{"$binary":"AA=="}}'
        text = f'452-["room:message",{{"a":{P0},"b":{P1}}}'.encode()
        for made, end in [(session(), b',"abc.2:17"]'), (session('{"recovery":false}'), b"]")]:
            frame = made.encode(publication(raw, binary=True, sequence=SEQUENCE))
            self.assertEqual(parts(frame), [text + end, b"xyz", b"\x00"])

    def test_binary_that_is_none_travels_as_text(self) -> None:
        for raw in [b'{"a":{"$binary":"!"}}', b'{"a":1e999}', b'{"a":"\xff"}', b"[" * 9999]:
            frame = session().encode(publication(raw, binary=True))
            self.assertEqual(parts(frame), [b'42["room:message",' + raw + b"]"])

    def test_names_are_quoted(self) -> None:
        frame = session().event('a"\\\n\x1eж', b"{}", None)
        self.assertEqual(json.loads(frame.text[2:]), ['a"\\\n\x1eж', {}])
        self.assertNotIn(b"\x1e", frame.text)

    def test_event(self) -> None:
        made = session()
        self.assertEqual(parts(made.event("a:b", b'{"c":1}', None)), [b'42["a:b",{"c":1}]'])
        self.assertEqual(parts(made.event("a:b", b"{}", SEQUENCE)), [b'42["a:b",{},"abc.2:17"]'])

    def test_reply(self) -> None:
        made = session()
        self.assertEqual(parts(made.reply(0, b'{"ok":true}', False)), [b'430[{"ok":true}]'])
        raw = b'{"x":{"$binary":"eHl6"}}'
        self.assertEqual(parts(made.reply(17, raw, False)), [b"4317[" + raw + b"]"])
        self.assertEqual(parts(made.reply(17, raw, True)), [f'461-17[{{"x":{P0}}}]'.encode(), b"xyz"])
        self.assertEqual(parts(made.reply(17, b'{"x":1}', True)), [b'4317[{"x":1}]'])

    def test_what_came_in_binary_goes_out_the_same(self) -> None:
        made = session()
        made.receive(f'52-7["room:message",{{"a":{P0},"b":[{P1}]}}]')
        made.receive(b"one")
        (event,) = made.receive(b"two")
        assert isinstance(event, Event)
        expected = [f'452-["room:message",{{"a":{P0},"b":[{P1}]}}]'.encode(), b"one", b"two"]
        self.assertEqual(parts(made.encode(publication(event.data, binary=event.binary))), expected)


VALID: list[str | bytes] = [
    *("0", '0{"token":"t","pid":"p","offset":"e.1:2","recovery":false}', "0/custom,{}", "1", "1/custom,"),
    *('2["room:message",{"roomId":"event:42","text":"hi"}]', '217["a",{"b":[1,2.5e3,null]}]', "312[]"),
    *(f'51-["a",{P0}]', f'52-9["a",{{"b":[{P0},{P1}]}},1]', f"61-5[{P0}]", '4{"message":"x"}'),
    *(b"", b"\x00\x01\x02", b'2["a"]'),
]


@st.composite
def mutated(draw: st.DrawFn) -> str | bytes:
    """A valid frame with a few places overwritten, cut out, doubled or filled with something else."""
    frame = draw(st.sampled_from(VALID))
    if isinstance(frame, bytes):
        return frame
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(frame)))
        end = draw(st.integers(start, len(frame)))
        filling = draw(
            st.sampled_from(
                ["", '"', "[", "]", "{", "}", ",", "-", "/", "\\", "\x1e", "0", "1e999", "\ud800"]
            )
            | st.text(max_size=3)
            | st.just(frame[start:end] * 2)
        )
        frame = frame[:start] + filling + frame[end:]
    return frame


class HostileTests(SynchronousTestCase):
    @unhurried
    @given(st.lists(mutated() | st.text() | st.binary(max_size=8), max_size=12), st.booleans())
    def test_frames_give_commands_or_a_protocol_error(
        self, frames: list[str | bytes], connected: bool
    ) -> None:
        made = session() if connected else fresh()
        for frame in frames:
            try:
                arrived = made.receive(frame)
            except ProtocolError:
                return
            for item in arrived:
                self.assertIsInstance(item, Command | Send)
                if isinstance(item, Connect):
                    made.connected("s", "p")
                if isinstance(item, Event):
                    self.follow(made, item)

    def follow(self, made: SocketIOSession, event: Event) -> None:
        """What was let in can be sent on, in this protocol and in every other."""
        json.loads(event.data)
        frame = made.encode(publication(event.data, binary=event.binary, sequence=SEQUENCE))
        self.assertNotIn(b"\x1e", frame.text)
        frame.text.decode()
        if event.ack is not None:
            made.reply(event.ack, event.data, event.binary)

    def test_large_frames_cost_little_more_than_their_size(self) -> None:
        """Each of these is 100 KB; what takes more than linear time would not come to an end here."""
        size = 100_000
        for payload in [
            "[" + "[]," * (size // 3) + "1]",
            "[" + '{"__proto__":1},' * (size // 16) + "1]",
            '"' + "0" * size + '"',
            '"' + '\\"' * (size // 2) + '"',
            "1" * size,
            "[" * 900 + "]" * 900,
            '"' + "\\u0041" * (size // 6) + '"',
            "1," * (size // 2) + "1",
        ]:
            for frame in [f'2["a",{payload}]', f'51-["a",{payload},{P0}]', f"31[{payload}]", f"0{payload}"]:
                made = session() if frame[0] != "0" else fresh()
                try:
                    made.receive(frame)
                except ProtocolError:
                    continue


class RoundTripTests(SynchronousTestCase):
    @unhurried
    @given(
        st.text(max_size=20),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**53), 2**53)
            | st.text(max_size=5)
            | st.binary(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
            max_leaves=8,
        ),
        st.none() | st.integers(0, 2**53 - 1),
    )
    def test_what_a_client_sends_it_gets_back(self, name: str, value: Any, ack: int | None) -> None:
        binary: list[bytes] = []
        packed = json.dumps([name, pack(value, binary)], ensure_ascii=False, separators=(",", ":"))
        head = f"5{len(binary)}-" if binary else "2"
        frames: list[str | bytes] = [f"{head}{'' if ack is None else ack}{packed}", *binary]
        made = session()
        try:
            (event,) = [item for frame in frames for item in made.receive(frame)]
        except ProtocolError:
            self.assertTrue(len(binary) > 10 or name in RESERVED_EVENTS)
            return
        assert isinstance(event, Event)
        self.assertEqual((event.name, event.ack, event.binary), (name, ack, bool(binary)))
        sent = parts(made.encode(Publication(name, event.data, Audience(), "", 0, binary=event.binary)))
        self.assertEqual(sent[1:], binary)
        self.assertEqual(json.loads(sent[0][sent[0].index(b"[") :]), json.loads(packed))


def pack(value: Any, binary: list[bytes]) -> Any:
    """The value with placeholders for its binary parts, as the reference client sends it."""
    if isinstance(value, bytes):
        binary.append(value)
        return {"_placeholder": True, "num": len(binary) - 1}
    if isinstance(value, list):
        return [pack(item, binary) for item in value]
    if isinstance(value, dict):
        return {key: pack(item, binary) for key, item in value.items()}
    return value
