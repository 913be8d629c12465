"""Tests for realtime.wire.plain: literal messages in, literal messages out."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.errors import Close, ExpiredToken
from realtime.messages import Audience, Connect, Event, Own, Publication, Sequence
from realtime.wire.plain import MAX_ID, MAX_NAME, PlainSession
from realtime.wire.session import NOTHING, IDirectSession

from ..generated import unhurried

PLACE = Sequence("epoch", 2, 17)


class ReceiveTests(SynchronousTestCase):
    """What a client says becomes a command, or a refusal of that one message."""

    def one(self, text: str | bytes) -> Any:
        (command,) = PlainSession().receive(text)
        return command

    def test_interface(self) -> None:
        verifyObject(IDirectSession, PlainSession())

    def test_events(self) -> None:
        for text, event in [
            ('{"event":"a"}', Event("a", b"{}")),
            (
                '{"event":"room:join","data":{"roomId":"x"},"id":1}',
                Event("room:join", b'{"roomId":"x"}', 1),
            ),
            ('{"id":"k","data":[1, 2],"event":"a"}', Event("a", b"[1, 2]", "k")),
            ('{"event":"a","id":0,"more":true}', Event("a", b"{}", 0)),
            (' { "event" : "a" , "data" : null , "id" : null } ', Event("a", b"null")),
            ('{"event":"\\u00fc","id":9007199254740991}', Event("ü", b"{}", 2**53 - 1)),
            ('{"event":"a","data":{"__proto__":1,"b":2}}', Event("a", b'{"b":2}')),
            (
                '{"event":"a","data":{"x":{"$binary":"AA=="}}}',
                Event("a", b'{"x":{"$binary":"AA=="}}', binary=True),
            ),
        ]:
            self.assertEqual(self.one(text), event, text)

    def test_what_is_bad(self) -> None:
        """It is said why; with the id, where there is one that can be used."""
        deep = "[" * 40 + "]" * 40
        for text, name, ack in [
            ("", "", None),
            ("hello", "", None),
            ("[]", "", None),
            ('"event"', "", None),
            ("{}", "", None),
            ('{"event":5,"id":7}', "", 7),
            ('{"event":"","id":7}', "", 7),
            ('{"event":null,"id":7}', "", 7),
            ('{"event":"%s","id":7}' % ("x" * (MAX_NAME + 1)), "", 7),
            ('{"event":"a","id":-1}', "", None),
            ('{"event":"a","id":1.5}', "", None),
            ('{"event":"a","id":true}', "", None),
            ('{"event":"a","id":9007199254740992}', "", None),
            ('{"event":"a","id":""}', "", None),
            ('{"event":"a","id":"%s"}' % ("x" * (MAX_ID + 1)), "", None),
            ('{"event":"a","id":[1]}', "", None),
            ('{"event":"a","id":7,"data":' + deep + "}", "a", 7),
            ('{"event":"a","id":7,"data":1e999}', "a", 7),
            ('{"event":"a","id":7,"data":123456789012345678901234567890}', "a", 7),
            ('{"event":"a","id":7,"data":NaN}', "", None),
            ("[" * 100_000, "", None),
            (b'{"event":"a"}', "", None),
        ]:
            event = self.one(text)
            self.assertEqual((event.name, event.ack), (name, ack), text[:60])
            self.assertTrue(event.fault, text[:60])
            self.assertEqual(event.data, b"{}")

    @unhurried
    @given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.integers() | st.text(), st.lists)))
    def test_anything(self, value: Any) -> None:
        """Whatever comes in is one command."""
        text = value if isinstance(value, str | bytes) else json.dumps({"event": value, "id": value})
        self.assertIsInstance(self.one(text), Event | Own)

    def test_header_token(self) -> None:
        """With a token in the request the session begins at once; else the client speaks first."""
        self.assertEqual(PlainSession().opening(True), [Connect()])
        self.assertEqual(PlainSession().opening(False), [])


class SendTests(SynchronousTestCase):
    """What clients are sent."""

    def setUp(self) -> None:
        self.session = PlainSession()

    def test_publication(self) -> None:
        """A logged one carries its place in the sequence, another does not."""
        for place, text in [
            (PLACE, b'{"event":"booking:created","data":{"a":1},"offset":"epoch.2:17"}'),
            (None, b'{"event":"booking:created","data":{"a":1}}'),
        ]:
            made = Publication("booking:created", b'{"a":1}', Audience(), "id", 5, sequence=place)
            self.assertEqual(self.session.encode(made).text, text)
            self.assertEqual([frame.text for frame in self.session.replay([made])], [text])

    def test_connected(self) -> None:
        """What the session is taken up by comes with ``system:connected``."""
        self.assertIsNone(self.session.connected("public", "secret"))
        told = json.loads(self.session.event("system:connected", b'{"userId":"a"}', PLACE).text)
        self.assertEqual(
            told,
            {
                "event": "system:connected",
                "data": {"userId": "a", "session": "secret", "position": "epoch.2:17"},
                "offset": "epoch.2:17",
            },
        )

    def test_replies(self) -> None:
        for ack, text in [
            (5, b'{"id":5,"ok":true,"a":1}'),
            ("k", b'{"id":"k","ok":true,"a":1}'),
            (5, b'{"id":5,"ok":true,"messageId":"x","offset":1}'),
            (("pong", 6), b'{"id":6,"ok":true,"a":1}'),
        ]:
            told = b'{"ok":true,"id":"x","offset":1}' if b"messageId" in text else b'{"ok":true,"a":1}'
            self.assertEqual(self.session.reply(ack, told, False).text, text)
        self.assertIs(self.session.reply(("pong", None), b'{"ok":true}', False), NOTHING)

    def test_pings(self) -> None:
        """A ping is answered; who has sent one is pinged within the protocol too."""
        self.assertEqual((self.session.ping().websocket, self.session.ping().text), (b"\x89\x00", b""))
        (own,) = self.session.receive('{"event":"ping"}')
        self.assertEqual(self.session.answer(own.ack).text, b'{"event":"pong"}')
        (own,) = self.session.receive('{"event":"ping","id":1}')
        self.assertEqual(self.session.answer(own.ack).text, b'{"event":"pong","id":1,"ok":true}')
        self.assertEqual(self.session.ping().websocket, b'\x89\x00\x81\x10{"event":"ping"}')
        (own,) = self.session.receive('{"event":"pong"}')
        self.assertIs(self.session.answer(own.ack), NOTHING)

    def test_ends(self) -> None:
        """A refusal at the door is an event; the rest is in the close code."""
        told = json.loads(self.session.refused(ExpiredToken()).text)
        self.assertEqual((told["event"], told["data"]["code"]), ("system:error", "auth.token_expired"))
        self.assertIsNone(self.session.disconnected())
        self.assertIsNone(self.session.farewell(Close.DRAIN))
