"""What each client event does, and what is refused."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close
from realtime.events import CLIENT_EVENTS
from realtime.messages import Published

from .house import START, Client, House


class _InHouse(SynchronousTestCase):
    def house(self, **settings: Any) -> House:
        house = House(**settings)
        self.addCleanup(house.stop)
        return house

    def assert_refused(self, answer: Any, code: str, event: str | None = None) -> None:
        self.assertFalse(answer["ok"], answer)
        self.assertEqual(answer["error"]["code"], code)
        self.assertTrue(answer["error"]["message"])
        if event is not None:
            self.assertEqual(answer["error"]["event"], event)


class JoinTests(_InHouse):
    """``room:join`` and ``room:leave``."""

    def test_answer(self) -> None:
        """The acknowledgement carries members, recent history and position."""
        house = self.house(room_message_history=2)
        bob = house.client("bob")
        bob.join("lobby")
        sent = [bob.say("lobby", text) for text in "abc"]
        alice = house.client("alice")
        answer = alice.join("lobby")
        self.assertTrue(answer["ok"])
        self.assertEqual(answer["roomId"], "lobby")
        self.assertEqual(
            [(member["userId"], member["status"]) for member in answer["members"]],
            [("bob", "online"), ("alice", "online")],
        )
        self.assertEqual(answer["members"][0]["metas"][0]["connectionId"], bob.sid)
        self.assertEqual([message["text"] for message in answer["history"]], ["b", "c"])
        self.assertEqual(answer["history"][1]["id"], sent[2]["id"])
        self.assertEqual(answer["position"]["offset"], sent[2]["offset"] + 1)
        self.assertNotIn("recovered", answer)

    def test_position(self) -> None:
        """With a position the history is what was missed since, if that is sure."""
        house = self.house()
        bob = house.client("bob")
        bob.join("lobby")
        first = bob.say("lobby", "a")
        position = bob.join("lobby")["position"]
        bob.say("lobby", "b")
        alice = house.client("alice")
        answer = alice.join("lobby", position=position)
        self.assertTrue(answer["recovered"])
        self.assertEqual([message["text"] for message in answer["history"]], ["b"])
        answer = alice.join("lobby", position={"offset": first["offset"], "epoch": "other"})
        self.assertFalse(answer["recovered"])
        self.assertEqual([message["text"] for message in answer["history"]], ["a", "b"])

    def test_once_per_user(self) -> None:
        """Others hear of a user's first tab in the room and of the last one that leaves."""
        house = self.house()
        bob = house.client("bob")
        bob.join("lobby")
        tabs = [house.client("alice") for _ in range(2)]
        bob.news()
        for tab in tabs:
            tab.join("lobby")
            tab.join("lobby")
        (joined,) = bob.heard("room:user_joined")
        self.assertEqual(joined, {"roomId": "lobby", "userId": "alice", "timestamp": int(START * 1000)})
        self.assertEqual(len(tabs[0].heard("room:joined")), 1)
        self.assertEqual([event[0] for event in tabs[1].news()][1:], ["room:joined"])
        tabs[0].call("room:leave", {"roomId": "lobby"})
        self.assertEqual(bob.news(), [])
        tabs[1].call("room:leave", {"roomId": "lobby"})
        self.assertEqual([event[0] for event in bob.news()], ["room:user_left"])
        self.assertEqual([event[0] for event in tabs[1].news()], ["room:left"])

    def test_invalid_ids(self) -> None:
        """What is no room id is refused with a code."""
        client = self.house().client("alice")
        for room in ("", "a b", "a:", ":a", "a::b", "a*", "a\n", "ü", "x" * 129, "{a}", "a:b\n"):
            self.assert_refused(client.join(room), "room.invalid_id", "room:join")
        for payload in ({}, {"roomId": 5}, {"roomId": None}, [], "x", None, 7):
            self.assert_refused(client.call("room:join", payload), "message.invalid")
        self.assert_refused(client.call("room:join"), "message.invalid")

    def test_closed_rooms(self) -> None:
        """Rooms that are joined for their members are closed; private ones need a grant."""
        house = self.house()
        client = house.client().connect(token=house.token("alice", rooms=["private:a:*", "private:b"]))
        for room in ("user:alice", "user:bob", "role:staff", "user", "private:c", "private:a"):
            self.assert_refused(client.join(room), "room.forbidden")
        self.assertTrue(client.join("private:a:1")["ok"])

    def test_full(self) -> None:
        """A room takes MAX_ROOM_MEMBERS users."""
        house = self.house(max_room_members=2)
        clients = [house.client(name) for name in ("a", "a", "b", "c")]
        answers = [client.join("lobby") for client in clients]
        self.assertEqual([answer["ok"] for answer in answers], [True, True, True, False])
        self.assert_refused(answers[3], "room.full")

    def test_too_many_rooms(self) -> None:
        """A connection joins so many rooms."""
        client = self.house(max_rooms_per_connection=2).client("alice")
        self.assertTrue(client.join("a")["ok"] and client.join("b")["ok"] and client.join("b")["ok"])
        self.assert_refused(client.join("c"), "room.limit")

    def test_leave_where_not_joined(self) -> None:
        """Leaving needs to have joined; the user's own room can't be left."""
        client = self.house().client("alice")
        self.assert_refused(client.call("room:leave", {"roomId": "lobby"}), "room.not_joined")
        self.assert_refused(client.call("room:leave", {"roomId": "user:alice"}), "room.forbidden")

    def test_invisible_member(self) -> None:
        """Who is invisible looks offline among the members, without connections."""
        house = self.house()
        alice, bob = house.client("alice"), house.client("bob")
        alice.join("lobby")
        alice.call("user:presence", {"status": "invisible", "text": "psst"})
        member = bob.join("lobby")["members"][0]
        self.assertEqual(member, {"userId": "alice", "status": "offline", "metas": []})


class MessageTests(_InHouse):
    """``room:message`` and ``room:history``."""

    def two(self, **settings: Any) -> tuple[House, Client, Client]:
        house = self.house(**settings)
        alice, bob = house.client("alice"), house.client("bob")
        alice.join("lobby")
        bob.join("lobby")
        alice.news()
        bob.news()
        return house, alice, bob

    def test_to_all_members(self) -> None:
        """All members get it, the sender too; the acknowledgement carries id, offset, timestamp."""
        _, alice, bob = self.two()
        answer = alice.say("lobby", "hi")
        wanted = {
            "roomId": "lobby",
            "userId": "alice",
            "text": "hi",
            "id": answer["id"],
            "timestamp": answer["timestamp"],
            "offset": answer["offset"],
        }
        self.assertEqual(bob.heard("room:message"), [wanted])
        self.assertEqual(alice.heard("room:message"), [wanted])

    def test_data(self) -> None:
        """Data of any shape travels as it is."""
        _, alice, bob = self.two()
        for data in ({"a": [1, {"b": None}]}, [1, "x"], "text", 5, False, {}):
            answer = alice.call("room:message", {"roomId": "lobby", "data": data})
            self.assertTrue(answer["ok"], data)
            (heard,) = bob.heard("room:message")
            self.assertEqual(heard["data"], data)

    def test_refused(self) -> None:
        """A message needs a room that was joined, and one of text and data."""
        _house, alice, bob = self.two()
        for room in ("other", "user:bob", "role:staff"):
            self.assertFalse(alice.say(room, "hi")["ok"])
        for more in ({}, {"text": "x", "data": 1}, {"text": ""}, {"text": 5}, {"text": "x" * 10_001}):
            answer = alice.call("room:message", {"roomId": "lobby", **more})
            self.assert_refused(answer, "message.invalid", "room:message")
        self.assertEqual(bob.news(), [])

    def test_retry(self) -> None:
        """A ``clientMessageId`` makes a retry harmless, for its user and room alone."""
        _house, alice, bob = self.two()
        first = alice.say("lobby", "hi", clientMessageId="1")
        again = alice.say("lobby", "hi", clientMessageId="1")
        self.assertEqual(first, again)
        self.assertTrue(bob.say("lobby", "hi", clientMessageId="1")["ok"])
        self.assertEqual([p["userId"] for p in bob.heard("room:message")], ["alice", "bob"])

    def test_history(self) -> None:
        """History is paged by offset in both directions, and says where the log ends."""
        _, alice, bob = self.two(room_message_history=5)
        offsets = [alice.say("lobby", str(n))["offset"] for n in range(8)]

        def ask(**more: Any) -> list[str]:
            answer = bob.call("room:history", {"roomId": "lobby", **more})
            self.assertEqual(answer["position"]["offset"], offsets[-1])
            return [message["text"] for message in answer["messages"]]

        self.assertEqual(ask(), ["3", "4", "5", "6", "7"])
        self.assertEqual(ask(limit=2), ["6", "7"])
        self.assertEqual(ask(before=offsets[6], limit=2), ["4", "5"])
        self.assertEqual(ask(after=offsets[3], limit=2), ["4", "5"])
        self.assertEqual(ask(after=offsets[7]), [])
        self.assertEqual(ask(after=0, before=offsets[5]), ["3", "4"])
        for wrong in ({"limit": 0}, {"limit": -1}, {"after": "x"}, {"before": 1.5}, {"limit": 10**9}):
            answer = bob.call("room:history", {"roomId": "lobby", **wrong})
            self.assert_refused(answer, "message.invalid", "room:history")
        self.assert_refused(bob.call("room:history", {"roomId": "other"}), "room.not_joined")

    def test_much_history(self) -> None:
        """History in one answer is bounded in bytes too; the rest is there by paging."""
        _house, alice, bob = self.two(ws_max_queue_bytes=40_000)
        offsets = [alice.say("lobby", "x" * 4000)["offset"] for _ in range(5)]

        def shown(answer: Any, field: str = "messages") -> list[int]:
            return [message["offset"] for message in answer[field]]

        self.assertEqual(shown(bob.call("room:history", {"roomId": "lobby"})), offsets[3:])
        answer = bob.call("room:history", {"roomId": "lobby", "before": offsets[3]})
        self.assertEqual(shown(answer), offsets[1:3])
        answer = bob.call("room:history", {"roomId": "lobby", "after": 0})
        self.assertEqual(shown(answer), offsets[:2])
        answer = bob.join("lobby", position={"offset": 0, "epoch": answer["position"]["epoch"]})
        self.assertEqual((answer["recovered"], shown(answer, "history")), (False, offsets[3:]))

    def test_binary(self) -> None:
        """Binary values reach Socket.IO clients as binary, also through history."""
        _, alice, bob = self.two()
        packet = '51-7["room:message",{"roomId":"lobby","data":{"_placeholder":true,"num":0}}]'
        alice.receiver.received(packet)
        alice.receiver.received(b"\x00\x01\xff")
        for client in (alice, bob):
            (frame,) = [f for f in client.outlet.frames if f.text.startswith(b"451-")]
            self.assertEqual(frame.attachments, (b"\x00\x01\xff",))
        self.assertIn("437[", "".join(alice.outlet.packets()))
        bob.call("room:history", {"roomId": "lobby"})
        frame = bob.outlet.frames[-1]
        self.assertTrue(frame.text.startswith(b"461-"))
        self.assertEqual(frame.attachments, (b"\x00\x01\xff",))

    def test_order(self) -> None:
        """All members see one order, that of the offsets."""
        _house, alice, bob = self.two()
        for n in range(20):
            (alice, bob)[n % 2].say("lobby", str(n))
        heard = [[p["offset"] for p in client.heard("room:message")] for client in (alice, bob)]
        self.assertEqual(heard[0], heard[1])
        self.assertEqual(heard[0], sorted(heard[0]))


class UserTests(_InHouse):
    """``user:typing``, ``user:presence``, ``user:preferences``."""

    def test_typing(self) -> None:
        """Others hear of it once; never the typist's own connections; it ends by itself."""
        house = self.house()
        tabs = [house.client("alice") for _ in range(2)]
        bob = house.client("bob")
        for client in (*tabs, bob):
            client.join("lobby")
            client.news()
        for tab in tabs:
            self.assertEqual(tab.call("user:typing", {"roomId": "lobby", "typing": True}), {"ok": True})
        (told,) = bob.heard("room:typing")
        self.assertEqual((told["userId"], told["typing"]), ("alice", True))
        house.clock.advance(2)
        tabs[0].call("user:typing", {"roomId": "lobby", "typing": True})
        house.clock.advance(2)
        self.assertEqual(bob.heard("room:typing"), [])
        house.clock.advance(1)
        self.assertEqual([p["typing"] for p in bob.heard("room:typing")], [False])
        for tab in tabs:
            self.assertEqual(tab.heard("room:typing"), [])
        self.assertFalse(bob.call("user:typing", {"roomId": "other", "typing": True})["ok"])

    def test_typing_ends_on_leaving(self) -> None:
        """Who leaves the room has stopped typing."""
        house = self.house()
        alice, bob = house.client("alice"), house.client("bob")
        for client in (alice, bob):
            client.join("lobby")
        alice.call("user:typing", {"roomId": "lobby", "typing": True})
        bob.news()
        alice.call("room:leave", {"roomId": "lobby"})
        self.assertEqual([event[0] for event in bob.news()], ["room:typing", "room:user_left"])
        house.clock.advance(5)
        self.assertEqual(bob.news(), [])

    def test_presence(self) -> None:
        """A chosen status reaches those who share a joined room, once each."""
        house = self.house()
        alice, bob, carol = (house.client(name) for name in ("alice", "bob", "carol"))
        for room in ("r1", "r2"):
            alice.join(room)
            bob.join(room)
        for client in (alice, bob, carol):
            client.news()
        self.assertTrue(alice.call("user:presence", {"status": "busy", "text": "meeting"})["ok"])
        (told,) = bob.heard("user:status_change")
        self.assertEqual((told["userId"], told["status"], told["text"]), ("alice", "busy", "meeting"))
        alice.call("user:presence", {"status": "invisible"})
        self.assertEqual([p["status"] for p in bob.heard("user:offline")], ["offline"])
        alice.call("user:presence", {"status": "online"})
        self.assertEqual([p["status"] for p in bob.heard("user:online")], ["online"])
        self.assertEqual(carol.news(), [])
        for wrong in ({"status": "asleep"}, {"status": "busy", "text": "x" * 141}, {}):
            self.assert_refused(alice.call("user:presence", wrong), "message.invalid")

    def test_idle(self) -> None:
        """After PRESENCE_TIMEOUT without an event a user is away; the next event changes that."""
        house = self.house(presence_timeout=300.0, presence_interval=60.0)
        alice, bob = house.client("alice"), house.client("bob")
        for client in (alice, bob):
            client.join("lobby")
        bob.news()
        for _ in range(6):
            house.clock.advance(60)
            bob.call("user:typing", {"roomId": "lobby", "typing": False})
        self.assertEqual([p["status"] for p in bob.heard("user:status_change")], ["away"])
        alice.call("user:typing", {"roomId": "lobby", "typing": False})
        self.assertEqual([p["status"] for p in bob.heard("user:status_change")], ["online"])

    def test_preferences(self) -> None:
        """Muted events and rooms are not delivered, to any tab, now or later."""
        house = self.house()
        alice, tab, bob = house.client("alice"), house.client("alice"), house.client("bob")
        for client in (alice, tab, bob):
            client.join("lobby")
            client.join("other")
        answer = alice.call(
            "user:preferences", {"mutedEvents": ["notification:new"], "mutedRooms": ["lobby"]}
        )
        self.assertEqual(answer, {"ok": True, "mutedEvents": ["notification:new"], "mutedRooms": ["lobby"]})
        later = house.client("alice")
        later.join("lobby")
        for client in (alice, tab, later):
            client.news()
        bob.say("lobby", "x")
        house.publish("notification:new", {"userId": "alice"})
        house.publish("booking:created", {"userId": "alice"})
        bob.say("other", "y")
        self.assertEqual([e[0] for e in alice.news()], ["booking:created", "room:message"])
        self.assertEqual([e[0] for e in tab.news()], ["booking:created", "room:message"])
        self.assertEqual([e[0] for e in later.news()], ["booking:created"])
        answer = alice.call("user:preferences", {"mutedRooms": []})
        self.assertEqual(answer["mutedEvents"], ["notification:new"])
        bob.say("lobby", "z")
        self.assertEqual([e[0] for e in tab.news()], ["room:message"])
        self.assertEqual(alice.call("user:preferences", {})["mutedEvents"], ["notification:new"])


class OrderTests(_InHouse):
    """Limits, rights, validation, effect: in that order, and one command after another."""

    def test_rate_limit(self) -> None:
        """More than RATE_LIMIT_MAX_MESSAGES in the window are refused with the time to wait."""
        house = self.house(rate_limit_max_messages=3, rate_limit_window_ms=60.0)
        tabs = [house.client("alice") for _ in range(2)]
        bob = house.client("bob")
        answers = [tab.call("user:presence", {"status": "busy"}) for tab in (*tabs, *tabs)]
        self.assertEqual([answer["ok"] for answer in answers], [True, True, True, False])
        self.assert_refused(answers[3], "rate.limited", "user:presence")
        self.assertEqual(answers[3]["error"]["retryAfter"], 20_000)
        self.assertTrue(bob.call("user:presence", {"status": "busy"})["ok"])
        house.clock.advance(20)
        self.assertTrue(tabs[0].call("user:presence", {"status": "busy"})["ok"])
        self.assertFalse(tabs[0].call("user:presence", {"status": "busy"})["ok"])

    def test_rate_limit_before_login(self) -> None:
        """A connection without a user has a limit of its own."""
        client = self.house(rate_limit_max_messages=2).client().connect()
        codes = [client.call("auth:login", {"token": "x"})["error"]["code"] for _ in range(3)]
        self.assertEqual(codes, ["auth.token_invalid", "auth.token_invalid", "rate.limited"])

    def test_unknown_event(self) -> None:
        """An event that does not exist is refused; so are the server's own."""
        client = self.house().client("alice")
        for name in ("nonsense", "booking:confirmed", "system:connected", "socket:connect", ""):
            self.assert_refused(client.call(name, {}), "event.unknown", name)

    def test_without_ack(self) -> None:
        """Who asked for no acknowledgement gets the refusal as ``system:error``."""
        client = self.house().client("alice")
        client.news()
        client.emit("room:join", {"roomId": "a b"})
        (error,) = client.heard("system:error")
        self.assertEqual((error["code"], error["event"]), ("room.invalid_id", "room:join"))

    def test_parked(self) -> None:
        """Commands wait for an earlier one that waits, in order, and past a bound reading stops."""
        house = self.house(ws_max_pending_events=3)
        client = house.client("alice")
        client.join("lobby")
        waiting: list[Deferred[Published]] = []
        publish = house.node.broker.publish

        def slow(publication: Any, key: str | None = None) -> Deferred[Published]:
            done: Deferred[Published] = Deferred()
            waiting.append(done)
            done.addCallback(lambda _: publish(publication, key))
            return done

        self.patch(house.node.broker, "publish", slow)
        self.assertIsNone(client.say("lobby", "1"))
        for text in "23":
            client.say("lobby", text)
        self.assertTrue(client.outlet.reading)
        client.say("lobby", "4")
        self.assertFalse(client.outlet.reading)
        self.assertEqual(len(waiting), 1)
        for n in range(4):
            self.assertEqual(len(waiting), n + 1)
            waiting[n].callback(None)
        self.assertTrue(client.outlet.reading)
        self.assertEqual([p["text"] for p in client.heard("room:message")], list("1234"))
        acks = [text[:3] for text in client.outlet.packets() if text.startswith("43")]
        self.assertEqual(acks, ["431", "432", "433", "434", "435"])

    def test_failing_handler(self) -> None:
        """A bug of ours is told without details, and costs nobody the connection."""
        house = self.house()
        client = house.client("alice")
        client.join("lobby")

        def broken(*_: Any) -> None:
            raise ZeroDivisionError("secret details")

        self.patch(house.node.broker, "publish", broken)
        answer = client.say("lobby", "x")
        self.assert_refused(answer, "internal.error", "room:message")
        self.assertNotIn("secret", str(answer))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsNone(client.outlet.close_reason)

    def test_unusable_payload(self) -> None:
        """A message that is right in grammar and can't be carried is refused, and costs no connection."""
        client = self.house().client("alice")
        client.join("lobby")
        deep = "[" * 40 + "]" * 40
        for n, data in enumerate(('"\\ud83d"', "1e999", "9" * 400, deep), 70):
            text = f'["room:message",{{"roomId":"lobby","data":{data}}}]'
            client.receiver.received(f"2{n}{text}")
            answer = json.loads(client.outlet.packets()[-1][4:])[0]
            self.assert_refused(answer, "message.invalid", "room:message")
        self.assertIsNone(client.outlet.close_reason)

    def test_attachments_that_do_not_come(self) -> None:
        """A binary event whose attachments stay away ends the connection; a whole one does not."""
        house = self.house(presence_interval=1000.0)
        late, whole = house.client("alice"), house.client("bob")
        packet = '52-["room:message",{"a":{"_placeholder":true,"num":0},"b":{"_placeholder":true,"num":1}}]'
        for client in (late, whole):
            client.receiver.received(packet)
            client.receiver.received(b"1")
        house.clock.advance(house.node.settings.ws_message_timeout - 1)
        whole.receiver.received(b"2")
        house.clock.advance(1)
        self.assertIs(late.outlet.close_reason, Close.PROTOCOL_ERROR)
        self.assertIsNone(whole.outlet.close_reason)
        whole.receiver.received(packet)
        whole.cut()
        house.clock.advance(house.node.settings.ws_message_timeout)
        self.assertIsNone(whole.outlet.close_reason)

    def test_broken_protocol(self) -> None:
        """A frame that can't be understood ends the connection, which may come back."""
        house = self.house()
        client = house.client("alice")
        client.receiver.received("nonsense")
        self.assertIs(client.outlet.close_reason, Close.PROTOCOL_ERROR)
        back = client.back(token=house.token("alice"))
        self.assertEqual(back.pid, client.pid)

    def test_after_the_end(self) -> None:
        """What still comes after the end has no effect."""
        house = self.house()
        client = house.client("alice")
        client.join("lobby")
        house.kick("alice")
        before = len(client.outlet.frames)
        client.receiver.received('2["room:message",{"roomId":"lobby","text":"x"}]')
        client.receiver.received('25["nonsense"]')
        self.assertEqual(len(client.outlet.frames), before)

    @settings(max_examples=200, deadline=None)
    @given(
        st.sampled_from(sorted(CLIENT_EVENTS)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["roomId", "text", "data", "limit", "token", "status", "typing", "x"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=6,
        ),
    )
    def test_any_payload(self, name: str, payload: Any) -> None:
        """Whatever an event carries, the answer is yes or a typed refusal."""
        house = House()
        try:
            client = house.client("alice")
            client.join("lobby")
            answer = client.call(name, payload)
            self.assertIn(answer["ok"], (True, False))
            if not answer["ok"]:
                self.assertNotEqual(answer["error"]["code"], "internal.error")
        finally:
            house.stop()


class PublishTests(_InHouse):
    """What services publish reaches whom it is for."""

    def test_owner_alone(self) -> None:
        """A user's booking reaches all of that user's tabs once, and nobody else."""
        house = self.house()
        tabs = {name: [house.client(name) for _ in range(2)] for name in ("a", "b", "c")}
        for clients in tabs.values():
            for client in clients:
                client.join("lobby")
        house.publish("booking:confirmed", {"userId": "b", "bookingId": 7})
        for name, clients in tabs.items():
            for client in clients:
                heard = client.heard("booking:confirmed")
                self.assertEqual(len(heard), 1 if name == "b" else 0)
                for payload in heard:
                    self.assertEqual(payload["bookingId"], 7)
                    self.assertEqual(payload["timestamp"], int(START * 1000))

    def test_event_room_and_everyone(self) -> None:
        """Tickets go to their event's room, announcements to everyone."""
        house = self.house()
        inside, outside = house.client("inside"), house.client("outside")
        inside.join("event:42")
        house.publish("ticket:sold", {"eventId": 42, "left": 3})
        house.publish("system:announcement", {"text": "hi"})
        house.publish("event:42:started", {})
        names = [event[0] for event in inside.news()]
        self.assertEqual(names[-3:], ["ticket:sold", "system:announcement", "event:started"])
        self.assertEqual([e[0] for e in outside.news()], ["system:connected", "system:announcement"])

    def test_status_by_service(self) -> None:
        """A status that a service publishes reaches those who share a joined room."""
        house = self.house()
        alice, bob, carol = (house.client(name) for name in ("alice", "bob", "carol"))
        alice.join("lobby")
        bob.join("lobby")
        for client in (bob, carol):
            client.news()
        house.publish("user:status_change", {"userId": "alice", "status": "busy"})
        self.assertEqual([e[0] for e in bob.news()], ["user:status_change"])
        self.assertEqual(carol.news(), [])
