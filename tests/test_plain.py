"""The plain JSON protocol through a whole node: log in, talk, be cut, come back."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close

from .house import House, PlainClient


class _InHouse(SynchronousTestCase):
    def house(self, **settings: Any) -> House:
        house = House(**settings)
        self.addCleanup(house.stop)
        return house

    def member(self, house: House, user: str, room: str = "lobby") -> PlainClient:
        client = PlainClient(house, user)
        self.assertTrue(client.call("room:join", {"roomId": room})["ok"])
        client.news()
        return client


class LoginTests(_InHouse):
    def test_first_message(self) -> None:
        """``auth:login`` first: ``system:connected`` with session and position, then the answer."""
        client = PlainClient(self.house(), "alice")
        connected, answer = client.messages()
        self.assertEqual(connected["event"], "system:connected")
        self.assertEqual(connected["data"]["userId"], "alice")
        self.assertFalse(connected["data"]["recovered"])
        self.assertTrue(connected["data"]["session"])
        self.assertEqual(connected["data"]["position"], connected["offset"])
        self.assertEqual((answer["id"], answer["ok"], answer["userId"]), (1, True, "alice"))

    def test_header(self) -> None:
        """A token in the request: connected at once. A bad one: told, and closed for good."""
        house = self.house()
        client = PlainClient(house, token=house.token("alice"))
        self.assertEqual([message["event"] for message in client.messages()], ["system:connected"])
        self.assertTrue(client.call("room:join", {"roomId": "lobby"})["ok"])
        refused = PlainClient(house, token="bad")
        (told,) = refused.messages()
        self.assertEqual(told["data"]["code"], "auth.token_invalid")
        self.assertIs(refused.outlet.close_reason, Close.REFUSED)

    def test_before_it(self) -> None:
        """Nothing but logging in and pinging works; without it the connection ends in time."""
        house = self.house()
        client = PlainClient(house)
        self.assertEqual(client.call("room:join", {"roomId": "lobby"})["error"]["code"], "auth.required")
        self.assertEqual(client.call("ping"), {"event": "pong", "ok": True})
        self.assertEqual(client.call("auth:login", {"token": "bad"})["error"]["code"], "auth.token_invalid")
        self.assertIsNone(client.outlet.close_reason)
        house.clock.advance(29)
        self.assertIsNone(client.outlet.close_reason)
        house.clock.advance(2)
        self.assertIs(client.outlet.close_reason, Close.CONNECT_TIMEOUT)

    def test_again(self) -> None:
        """A refused login may be repeated, and a newer token renews; another user's takes over."""
        house = self.house(rate_limit_max_connections=1)
        first = PlainClient(house, "alice")
        second = PlainClient(house, "alice")
        self.assertEqual(second.answer["error"]["code"], "connection.limit")
        first.call("auth:logout")
        self.assertIs(first.outlet.close_reason, Close.LOGOUT)
        self.assertTrue(second.call("auth:login", {"token": house.token("alice")})["ok"])
        self.assertTrue(second.call("auth:token_refresh", {"token": house.token("alice", ttl=9000)})["ok"])
        self.assertEqual(second.call("auth:login", {"token": house.token("bob")})["userId"], "bob")

    def test_taking_up_is_for_the_first_message(self) -> None:
        """Who has a session already can't take up another."""
        house = self.house()
        client = PlainClient(house, token=house.token("alice"))
        login = {"token": house.token("alice"), "session": "x", "position": "y"}
        self.assertEqual(client.call("auth:login", login)["error"]["code"], "message.invalid")
        self.assertTrue(client.call("room:join", {"roomId": "lobby"})["ok"])


class TalkTests(_InHouse):
    def test_room(self) -> None:
        """Messages, order, history and presence are those of all protocols."""
        house = self.house()
        alice, carol = self.member(house, "alice"), house.client("carol")
        carol.join("lobby")
        sent = [
            alice.call("room:message", {"roomId": "lobby", "text": "one"}),
            carol.say("lobby", "two"),
            alice.call("room:message", {"roomId": "lobby", "data": {"n": 3}}),
        ]
        ids = [answer.get("messageId") or answer["id"] for answer in sent]
        self.assertEqual([message["id"] for message in alice.heard("room:message")], ids)
        self.assertEqual([message["id"] for message in carol.heard("room:message")], ids)
        late = PlainClient(house, "dave")
        joined = late.call("room:join", {"roomId": "lobby"})
        self.assertEqual([message["id"] for message in joined["history"]], ids)
        self.assertEqual([member["userId"] for member in joined["members"]], ["alice", "carol", "dave"])

    def test_refusals(self) -> None:
        """Each has a code, in the answer or else as ``system:error``; the connection stays."""
        client = self.member(self.house(), "alice")
        client.say("rubbish")
        client.say('{"event":"room:message","data":{"roomId":"lobby","text":5}}')
        client.say('{"event":"no:such"}')
        codes = [error["code"] for error in client.heard("system:error")]
        self.assertEqual(codes, ["message.invalid", "message.invalid", "event.unknown"])
        for room, code in [("user:bob", "room.forbidden"), ("a b", "room.invalid_id")]:
            self.assertEqual(client.call("room:join", {"roomId": room})["error"]["code"], code)
        self.assertTrue(client.call("room:message", {"roomId": "lobby", "text": "still here"})["ok"])

    def test_rubbish_is_limited(self) -> None:
        """What can't be understood counts as a message, and so does a ping."""
        client = PlainClient(self.house(rate_limit_max_messages=3), "alice")
        for text in ("rubbish", '{"event":"ping"}', '{"event":"ping"}', '{"event":"pong"}', "rubbish"):
            client.say(text)
        told = [(event["event"], event["data"].get("code")) for event in client.news() if "data" in event]
        limited = ("system:error", "rate.limited")
        self.assertEqual(told[1:], [("system:error", "message.invalid"), limited, limited, limited])

    def test_binary(self) -> None:
        """``{"$binary": base64}`` stays what it is here, and is binary to Socket.IO."""
        house = self.house()
        alice, carol = self.member(house, "alice"), house.client("carol")
        carol.join("lobby")
        data = {"bytes": {"$binary": "AAH/"}}
        self.assertTrue(alice.call("room:message", {"roomId": "lobby", "data": data})["ok"])
        self.assertEqual(alice.heard("room:message")[0]["data"], data)
        (frame,) = [frame for frame in carol.outlet.frames if frame.attachments]
        self.assertEqual(frame.attachments, (b"\x00\x01\xff",))

    def test_token_ends(self) -> None:
        """The client is told before, and closed after."""
        house = self.house()
        client = PlainClient(house, token=house.token("alice", ttl=301))
        house.clock.pump([1.0] * 2)
        self.assertEqual(len(client.heard("auth:token_expiring")), 1)
        house.clock.pump([10.0] * 31)
        self.assertIs(client.outlet.close_reason, Close.TOKEN_EXPIRED)

    def test_kick(self) -> None:
        house = self.house()
        client = PlainClient(house, "alice")
        Deferred.fromCoroutine(house.node.sessions.user_endings.disconnect_user("alice"))
        self.assertEqual(client.heard("system:error")[0]["code"], "connection.kicked")
        self.assertIs(client.outlet.close_reason, Close.KICKED)


class RecoveryTests(_InHouse):
    """Session and position take the session up: all that was missed, once and in order."""

    def test_missed(self) -> None:
        house = self.house()
        alice, bob = self.member(house, "alice"), self.member(house, "bob")
        bob.call("room:message", {"roomId": "lobby", "text": "seen"})
        alice.news()
        alice.cut()
        bob.call("room:message", {"roomId": "lobby", "text": "1"})
        house.publish("booking:created", {"userId": "alice", "n": 2})
        bob.call("room:message", {"roomId": "lobby", "text": "3"})
        back = alice.back("alice")
        events = back.news()
        self.assertEqual(
            [event["event"] for event in events[:4]],
            ["room:message", "booking:created", "room:message", "system:connected"],
        )
        self.assertTrue(events[3]["data"]["recovered"])
        self.assertEqual(back.session, alice.session)
        self.assertTrue(back.answer["ok"])
        bob.call("room:message", {"roomId": "lobby", "text": "4"})
        self.assertEqual([message["text"] for message in back.heard("room:message")], ["4"])
        back.cut()
        again = back.back("alice")
        self.assertEqual(again.news()[0]["event"], "system:connected")

    def test_not_recovered(self) -> None:
        """Another epoch, another user's session, an unknown one, a gap: a fresh session, and it says so."""
        for position in ("other.1:1", "rubbish", None):
            house = self.house()
            alice, bob = self.member(house, "alice"), self.member(house, "bob")
            alice.cut()
            bob.call("room:message", {"roomId": "lobby", "text": "1"})
            if position is None:
                back = alice.back("bob")
            else:
                back = alice.back("alice", position=position)
            (connected,) = back.heard("system:connected")
            self.assertFalse(connected["recovered"], position)
            self.assertNotEqual(back.session, alice.session)
        back = PlainClient(house, "alice", session="unknown", position="x.1:1")
        self.assertFalse(back.heard("system:connected")[0]["recovered"])

    def test_positions_of_rooms(self) -> None:
        """A fresh session joins its rooms again with the positions that it had reached."""
        house = self.house()
        alice, bob = self.member(house, "alice"), self.member(house, "bob")
        position = alice.call("room:join", {"roomId": "lobby"})["position"]
        alice.cut()
        bob.call("room:message", {"roomId": "lobby", "text": "1"})
        fresh = PlainClient(house, "alice")
        joined = fresh.call("room:join", {"roomId": "lobby", "position": position})
        self.assertTrue(joined["recovered"])
        self.assertEqual([message["text"] for message in joined["history"]], ["1"])
        joined = fresh.call("room:join", {"roomId": "lobby", "position": {"offset": 1, "epoch": "other"}})
        self.assertFalse(joined["recovered"])

    def test_from_another_protocol(self) -> None:
        """A session is the same whatever carried it: one begun over Socket.IO is taken up here."""
        house = self.house()
        carol = house.client("carol")
        carol.join("lobby")
        carol.news()
        bob = self.member(house, "bob")
        carol.cut()
        bob.call("room:message", {"roomId": "lobby", "text": "1"})
        back = PlainClient(house, "carol", session=carol.pid, position=carol.offset)
        self.assertEqual(
            [event["event"] for event in back.news()][1:3], ["room:message", "system:connected"]
        )

    def test_before_the_old_one_is_gone(self) -> None:
        """The new connection takes the place of one that nobody knows to be dead."""
        house = self.house()
        alice = self.member(house, "alice")
        back = alice.back("alice")
        self.assertTrue(back.heard("system:connected")[0]["recovered"])
        self.assertIs(alice.outlet.close_reason, Close.REPLACED)
