"""Tests for realtime.ingress.verbs: every verb on a whole node, with what it refuses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from realtime.api_keys import SCOPES, ApiKey, digest, master_key
from realtime.errors import InternalError, RealtimeError
from realtime.ingress.paths import ROUTES
from realtime.ingress.verbs import COMMON, VERBS, Caller

from ..house import START, Client, House
from .requests import NOT_DONE, PUBLICATION, REQUESTS

NOW = int(START * 1000)
MASTER = Caller(master_key("k"), "10.0.0.1")


class VerbCase(SynchronousTestCase):
    """One node, and services that ask it."""

    def setUp(self) -> None:
        self.house = House()
        self.addCleanup(self.house.stop)

    def ask(self, verb: str, caller: Caller = MASTER, **request: Any) -> dict[str, Any]:
        """What a verb answers."""
        return self.successResultOf(self.begin(verb, caller, request))

    def begin(self, verb: str, caller: Caller, request: dict[str, Any]) -> Deferred[dict[str, Any]]:
        asked = VERBS[verb].decode(json.dumps(request).encode())
        done = self.house.node.verbs.perform(VERBS[verb], asked, caller)
        return done.addCallback(lambda answer: json.loads(msgspec.json.encode(answer)))

    def refusal(self, verb: str, caller: Caller = MASTER, **request: Any) -> str:
        """The code with which a verb refuses."""
        try:
            failure: Failure = self.failureResultOf(self.begin(verb, caller, request), RealtimeError)
        except RealtimeError as error:
            found: RealtimeError = error
        else:
            found = failure.value
        allowed = (*COMMON, *VERBS[verb].errors, VERBS[verb].invalid)
        self.assertIn(type(found), allowed, "a refusal that the table does not tell of")
        return found.code

    def here(self, user: str, *rooms: str) -> Client:
        """A client that is connected, and in rooms."""
        client = self.house.client(user)
        for room in rooms:
            self.assertTrue(client.join(room)["ok"])
        return client

    def got(self, client: Client, event: str) -> list[Any]:
        """The payloads of an event that a client got."""
        return [arguments[0] for name, *arguments in client.outlet.events() if name == event]


class TableTests(SynchronousTestCase):
    """The table and the roads."""

    def test_http_has_every_verb(self) -> None:
        self.assertEqual({route.verb for route in ROUTES}, set(VERBS))

    def test_paths_name_fields(self) -> None:
        """What a path or a query names is a field of the request."""
        for route in ROUTES:
            known = {field.encode_name for field in msgspec.structs.fields(VERBS[route.verb].request)}
            self.assertLessEqual({*route.fields, *route.query}, known, route.path)
            if not route.body:
                self.assertEqual({*route.fields, *route.query}, known, route.path)


class ScopeTests(VerbCase):
    """Who may ask for what."""

    def test_every_verb(self) -> None:
        """Each is done for a key with its scope, and refused to a key with the others."""
        self.assertEqual(set(REQUESTS), set(VERBS))
        for name, verb in VERBS.items():
            only = ApiKey("only", digest("1"), scopes=frozenset([verb.scope]))
            others = ApiKey("others", digest("2"), scopes=frozenset(SCOPES) - {verb.scope})
            if name in NOT_DONE:
                refused = self.refusal(name, Caller(only, ""), **REQUESTS[name])
                self.assertEqual(refused, NOT_DONE[name])
            else:
                self.ask(name, Caller(only, ""), **REQUESTS[name])
            refused = self.refusal(name, Caller(others, ""), **REQUESTS[name])
            self.assertEqual(refused, "api.forbidden", name)

    def test_unknown_fields(self) -> None:
        for name, verb in VERBS.items():
            refused = self.refusal(name, **REQUESTS[name], misspelt=1)
            self.assertEqual(refused, verb.invalid.code, name)

    def test_channels_of_a_key(self) -> None:
        """A key for some channels reaches no others, by no verb."""
        caller = Caller(ApiKey("booking", digest("1"), channels=("booking:*", "room:lobby:*")), "")
        self.ask("publish", caller, channel="booking:created", data={"userId": "alice"})
        audience = {"users": ["alice", "bob"]}
        self.ask("broadcast", caller, event="booking:created", data={}, audience=audience)
        self.assertEqual(self.refusal("publish", caller, **PUBLICATION), "api.forbidden")
        refused = self.refusal("broadcast", caller, event="room:message", data={}, audience=audience)
        self.assertEqual(refused, "api.forbidden")
        results = self.ask("batch", caller, publications=[PUBLICATION])["results"]
        self.assertEqual([result["error"]["code"] for result in results], ["api.forbidden"])

    def test_names(self) -> None:
        """Ids that are none are refused by every verb that takes one, before anything is done."""
        for name, request in REQUESTS.items():
            if "userId" in request:
                refused = self.refusal(name, **{**request, "userId": "a b"})
                self.assertEqual(refused, "message.invalid", name)
            for field in {"roomId", "to"} & request.keys():
                self.assertEqual(self.refusal(name, **{**request, field: "a b"}), "room.invalid_id", name)


class PublishingTests(VerbCase):
    def test_excluded(self) -> None:
        alice, bob = self.here("alice"), self.here("bob")
        self.ask("publish", **PUBLICATION, exclude={"users": ["bob"], "connections": ["none"]})
        self.assertEqual(len(self.got(alice, "system:news")), 1)
        self.assertEqual(self.got(bob, "system:news"), [])

    def test_excluded_connection(self) -> None:
        alice, other = self.here("alice"), self.here("alice")
        (told,) = self.got(alice, "system:connected")
        self.ask("publish", **PUBLICATION, exclude={"connections": [told["connectionId"]]})
        self.assertEqual(self.got(alice, "system:news"), [])
        self.assertEqual(len(self.got(other, "system:news")), 1)

    def test_loss(self) -> None:
        """What may be dropped has no place in the log; what must not has."""
        self.assertIsNone(self.ask("publish", **PUBLICATION, loss="drop")["offset"])
        self.assertEqual(self.ask("publish", **PUBLICATION, loss="must")["offset"], 1)
        self.assertEqual(self.refusal("publish", **PUBLICATION, loss="perhaps"), "publish.invalid")

    def test_time_to_live(self) -> None:
        """After it nobody gets the publication who comes back, and the history does not show it."""
        channel = {"channel": "room:lobby:message", "data": {"text": "soon over"}}
        alice = self.here("alice", "lobby")
        alice.cut()
        self.ask("publish", **channel, ttl=1000)
        self.ask("publish", **channel, ttl=60_000)
        self.assertEqual(len(self.ask("history", roomId="lobby")["messages"]), 2)
        self.house.clock.advance(2)
        self.assertEqual(len(self.ask("history", roomId="lobby")["messages"]), 1)
        again = alice.back(token=self.house.token("alice"))
        self.assertEqual(len(self.got(again, "room:message")), 1)
        bob = self.house.client("bob")
        self.assertEqual(len(bob.join("lobby")["history"]), 1)
        self.assertEqual(self.refusal("publish", **PUBLICATION, ttl=0), "publish.invalid")

    def test_broadcast(self) -> None:
        """To the union of users and rooms, each once."""
        alice, bob, carol = self.here("alice", "lobby"), self.here("bob", "lobby"), self.here("carol")
        answer = self.ask(
            "broadcast",
            event="ticket:sold",
            data={"left": 3},
            audience={"users": ["alice", "carol"], "rooms": ["lobby"]},
            exclude={"users": ["bob"]},
        )
        self.assertEqual(
            answer["audience"], {"everyone": False, "users": ["alice", "carol"], "rooms": ["lobby"]}
        )
        for client, count in ((alice, 1), (bob, 0), (carol, 1)):
            self.assertEqual(len(self.got(client, "ticket:sold")), count)
        self.assertEqual(self.got(alice, "ticket:sold")[0], {"left": 3, "timestamp": NOW})

    def test_broadcast_refused(self) -> None:
        everyone = {"everyone": True}
        for event, audience, code in (
            ("system:news", {}, "publish.no_owner"),
            ("booking:created", everyone, "publish.no_owner"),
            ("warehouse:moved", everyone, "publish.channel_unknown"),
            ("system", everyone, "publish.channel_unknown"),
            ("system:a b", everyone, "publish.channel_unknown"),
            ("system:news", {"rooms": ["a b"]}, "room.invalid_id"),
            ("system:news", {"users": ["a b"]}, "publish.invalid"),
        ):
            refused = self.refusal("broadcast", event=event, data={}, audience=audience)
            self.assertEqual(refused, code, event)
        refused = self.refusal("broadcast", event="system:news", data=[], audience=everyone)
        self.assertEqual(refused, "publish.invalid")

    def test_repeated_broadcast(self) -> None:
        request = {"event": "system:news", "data": {}, "audience": {"everyone": True}, "messageId": "m"}
        alice = self.here("alice")
        first = self.ask("broadcast", **request)
        self.assertEqual(self.ask("broadcast", **request), {**first, "repeated": True})
        self.assertEqual(len(self.got(alice, "system:news")), 1)

    def test_batch(self) -> None:
        """Each is taken or refused by itself, in order."""
        alice = self.here("alice")
        many = [{"channel": "system:news", "data": {"n": n}} for n in range(3)]
        bad = {"channel": "booking:created", "data": {}}
        results = self.ask("batch", publications=[*many[:2], bad, many[2]])["results"]
        self.assertEqual(
            [result.get("error", {}).get("code") for result in results],
            [None, None, "publish.no_owner", None],
        )
        self.assertEqual(
            [result["accepted"]["offset"] for result in results if "accepted" in result], [1, 2, 3]
        )
        self.assertEqual([told["n"] for told in self.got(alice, "system:news")], [0, 1, 2])
        self.assertEqual(self.refusal("batch", publications=[]), "publish.invalid")
        self.assertEqual(self.refusal("batch", publications=[PUBLICATION] * 101), "publish.invalid")

    def test_our_bug_in_a_batch(self) -> None:
        self.patch(self.house.node.ingest, "take", lambda *arguments: 1 / 0)
        results = self.ask("batch", publications=[PUBLICATION])["results"]
        self.assertEqual(results, [{"error": {"code": "internal.error", "message": InternalError.default}}])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class RoomTests(VerbCase):
    def test_history(self) -> None:
        alice = self.here("alice", "lobby")
        for text in "abc":
            self.assertTrue(alice.call("room:message", {"roomId": "lobby", "text": text})["ok"])
        told = self.ask("history", roomId="lobby")
        self.assertEqual([message["text"] for message in told["messages"]], ["a", "b", "c"])
        offsets = [message["offset"] for message in told["messages"]]
        self.assertEqual(told["position"]["offset"], offsets[-1])
        told = self.ask("history", roomId="lobby", after=offsets[0], limit=1)
        self.assertEqual([message["text"] for message in told["messages"]], ["b"])
        told = self.ask("history", roomId="lobby", before=offsets[1])
        self.assertEqual([message["text"] for message in told["messages"]], ["a"])

    def test_history_remove(self) -> None:
        """The room is told, and nobody sees the message any more who asks for the history."""
        alice = self.here("alice", "lobby")
        sent = [alice.call("room:message", {"roomId": "lobby", "text": text}) for text in "abc"]
        offset = sent[1]["offset"]
        self.assertEqual(self.ask("history_remove", roomId="lobby", offset=offset), {"removed": 1})
        told = {"roomId": "lobby", "offset": offset, "timestamp": NOW}
        self.assertEqual(self.got(alice, "room:message_removed"), [told])
        shown = alice.call("room:history", {"roomId": "lobby"})["messages"]
        self.assertEqual([message["text"] for message in shown], ["a", "c"])
        self.assertEqual(self.ask("history_remove", roomId="lobby", offset=offset), {"removed": 0})
        self.assertEqual(self.ask("history_remove", roomId="lobby"), {"removed": 2})
        self.assertEqual(
            self.got(alice, "room:message_removed")[1:], [{"roomId": "lobby", "timestamp": NOW}]
        )
        self.assertEqual(alice.call("room:history", {"roomId": "lobby"})["messages"], [])

    def test_kick(self) -> None:
        """All of the user's connections are out, and told why; others are told once."""
        devices = [self.here("alice", "lobby", "hall") for _ in range(2)]
        bob = self.here("bob", "lobby")
        answer = self.ask("kick", roomId="lobby", userId="alice", reason="spam")
        self.assertEqual(answer, {"connections": 2})
        for device in devices:
            (left,) = self.got(device, "room:left")
            self.assertEqual((left["roomId"], left["reason"]), ("lobby", "spam"))
            refused = device.call("room:message", {"roomId": "lobby", "text": "still here?"})
            self.assertEqual(refused["error"]["code"], "room.not_joined")
            self.assertTrue(device.call("room:message", {"roomId": "hall", "text": "here"})["ok"])
        self.assertEqual([told["userId"] for told in self.got(bob, "room:user_left")], ["alice"])
        self.assertEqual(self.ask("kick", roomId="lobby", userId="alice"), {"connections": 0})
        self.assertTrue(devices[0].join("lobby")["ok"])

    def test_kicked_while_away(self) -> None:
        """A session that waits to be taken up is out of the room when it is."""
        alice = self.here("alice", "lobby", "hall")
        alice.cut()
        self.ask("kick", roomId="lobby", userId="alice")
        again = alice.back(token=self.house.token("alice"))
        self.assertTrue(self.got(again, "system:connected")[0]["recovered"])
        refused = again.call("room:history", {"roomId": "lobby"})
        self.assertEqual(refused["error"]["code"], "room.not_joined")
        self.assertTrue(again.call("room:history", {"roomId": "hall"})["ok"])

    def test_reserved_rooms(self) -> None:
        for verb, request in (
            ("kick", {"roomId": "user:alice"}),
            ("move", {"roomId": "role:admin", "to": "lobby"}),
            ("move", {"roomId": "lobby", "to": "user:bob"}),
        ):
            self.assertEqual(self.refusal(verb, userId="alice", **request), "room.forbidden")

    def test_move(self) -> None:
        alice, bob = self.here("alice", "lobby"), self.here("bob", "hall")
        self.assertEqual(self.ask("move", roomId="lobby", userId="alice", to="hall"), {"connections": 1})
        self.assertEqual(self.got(alice, "room:left")[0]["reason"], "moved")
        self.assertEqual(self.got(alice, "room:joined")[-1]["roomId"], "hall")
        self.assertEqual([told["userId"] for told in self.got(bob, "room:user_joined")], ["alice"])
        self.assertTrue(alice.call("room:message", {"roomId": "hall", "text": "here"})["ok"])

    def test_moved_where_they_may_not_be(self) -> None:
        """A room that their token does not open stays closed: they are told."""
        alice = self.here("alice", "lobby")
        self.ask("move", roomId="lobby", userId="alice", to="private:9")
        self.assertEqual([error["code"] for error in self.got(alice, "system:error")], ["room.forbidden"])
        self.assertEqual(self.got(alice, "room:joined")[-1]["roomId"], "lobby")


class UserTests(VerbCase):
    def test_disconnect(self) -> None:
        alice = self.here("alice")
        self.assertEqual(self.ask("disconnect", userId="alice", reason="closing time"), {"disconnected": 1})
        self.assertEqual(
            self.got(alice, "system:error"), [{"code": "connection.kicked", "message": "closing time"}]
        )
        self.assertEqual(alice.outlet.close_reason.number, 4501)
        self.assertEqual(self.ask("disconnect", userId="alice"), {"disconnected": 0})

    def test_disconnect_with_a_code(self) -> None:
        alice = self.here("alice")
        self.ask("disconnect", userId="alice", code=4502)
        self.assertEqual(alice.outlet.close_reason.number, 4502)
        for code in (4000, 4503, 1000, "4501"):
            self.assertEqual(self.refusal("disconnect", userId="alice", code=code), "message.invalid")

    def test_disconnect_one(self) -> None:
        """One connection of a user; not one that is another's."""
        one, other = self.here("alice"), self.here("alice")
        bob = self.here("bob")
        ids = [self.got(client, "system:connected")[0]["connectionId"] for client in (one, bob)]
        self.assertEqual(self.ask("disconnect", userId="alice", connectionId=ids[1]), {"disconnected": 0})
        self.assertEqual(self.ask("disconnect", userId="alice", connectionId=ids[0]), {"disconnected": 1})
        self.assertIsNotNone(one.outlet.close_reason)
        self.assertIsNone(other.outlet.close_reason)
        self.assertIsNone(bob.outlet.close_reason)

    def test_until(self) -> None:
        for name in ("revoke_token", "revoke_user", "block", "mute"):
            request = REQUESTS[name]
            self.assertEqual(self.refusal(name, **request, until=NOW), "trust.past")
            self.assertEqual(self.ask(name, **request, until=NOW + 1000)["until"], NOW + 1000)

    def test_block(self) -> None:
        alice = self.here("alice")
        self.assertEqual(self.ask("block", userId="alice"), {"banned": True})
        self.assertEqual(alice.outlet.close_reason.number, 4504)
        self.assertEqual(self.ask("unblock", userId="alice"), {"lifted": True})

    def test_info(self) -> None:
        self.here("alice")
        told = self.ask("info")
        self.assertEqual((told["node"], told["connections"], told["users"]), (self.house.node.id, 1, 1))
        self.assertIn("booking", told["channels"])
        self.assertEqual(self.ask("count")["connections"], 1)
