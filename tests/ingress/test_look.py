"""Tests of what operators ask for over HTTP: nodes, users, connections, events, history."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.api_keys import ApiKey, digest
from realtime.connections import Connection
from realtime.ingress import look
from realtime.ingress.http import Api
from realtime.ingress.look import Look
from realtime.ingress.openapi import document
from realtime.ingress.paths import INTERNAL
from realtime.messages import Audience, Identity, Publication
from realtime.node import Node
from realtime.pace import Pace
from realtime.routing import RULES
from realtime.settings import Settings
from realtime.wire.plain import PlainSession
from realtime.wire.session import Frame

from ..outlets import MemoryOutlet
from ..test_limits import connection
from .exchange import Answer, Exchange

KEY = "k" * 32


class LookCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        settings = Settings(jwt_secret="s" * 32, api_key=KEY)
        self.node = node = Node(settings, clock=self.clock, wall=lambda: 1_700_000_000.0)
        node.broker.start(node.fanout, node.peers)
        self.api = Api(
            keys=node.guard.policy.api_keys,
            security=node.guard.security,
            verbs=node.verbs,
            document=dict,
            operators=Look(self.clock, node.inquiries, node.broker).routes(),
            pace=Pace(self.clock),
        )
        self.exchange = self.connect()

    def connect(self) -> Exchange:
        return Exchange(self.api.resource, self.clock)

    def add(self, name: str, user: str, *rooms: str, plain: bool = False) -> Connection:
        made = connection(user)
        made.id = name
        made.identity = Identity(user, frozenset({"guest"}), (), 1_700_000_100.0)
        if plain:
            made.session = PlainSession()
        self.node.connections.add(made)
        for room in rooms:
            self.node.rooms.enter(made, room, True)
        return made

    def ask(self, path: str, key: str = KEY) -> Answer:
        return self.exchange.ask("GET", f"/v1/{path}", {"Authorization": f"Bearer {key}"})

    def ids(self, query: str) -> list[str]:
        return [one["connectionId"] for one in self.ask(f"connections?{query}").json["connections"]]

    def refused(self, path: str, status: int, code: str) -> None:
        answer = self.ask(path)
        self.assertEqual((answer.status, answer.json["error"]["code"]), (status, code), path)


class LookTests(LookCase):
    def test_internal(self) -> None:
        """The paths are not described as part of the API, and its description says so."""
        described = document(RULES)
        for _, _, path, _ in Look(self.clock, self.node.inquiries, self.node.broker).routes():
            told = path.replace("<connection>", "{connectionId}")
            self.assertNotIn(told, described["paths"])
            self.assertIn(told.removesuffix("/events"), INTERNAL)
        for told in INTERNAL:
            self.assertIn(told, described["info"]["description"])

    def test_nodes(self) -> None:
        self.add("c1", "alice")
        told = self.ask("nodes").json
        self.assertEqual(told["node"], self.node.id)
        (own,) = told["nodes"]
        self.assertEqual((own["node"], own["users"], own["broker"]["alive"]), (self.node.id, 1, True))
        self.assertIn("latency", own)

    def test_connections(self) -> None:
        """Filtered by user, room, protocol and transport; page by page, in the order of their ids."""
        self.add("c1", "alice", "lobby")
        self.add("c2", "alice", plain=True)
        self.add("c3", "bob", "lobby").outlet.transport = "polling"
        self.assertEqual(self.ids(""), ["c1", "c2", "c3"])
        self.assertEqual(self.ids("user=alice"), ["c1", "c2"])
        self.assertEqual(self.ids("room=lobby"), ["c1", "c3"])
        self.assertEqual(self.ids("protocol=plain"), ["c2"])
        self.assertEqual(self.ids("transport=polling&user=bob&room=lobby"), ["c3"])
        self.assertEqual(self.ids("user=carol"), [])
        page = self.ask("connections?limit=2").json
        self.assertEqual((page["total"], page["next"]), (3, "c2"))
        self.assertEqual(self.ids("limit=2&after=c2"), ["c3"])
        for query in (
            "limit=0",
            "limit=x",
            "protocol=smtp",
            "transport=pigeon",
            "user=a%20b",
            f"after={'x' * 129}",
        ):
            self.refused(f"connections?{query}", 400, "message.invalid")
        self.refused("connections?room=no%20room", 400, "room.invalid_id")
        self.refused("connections?node=other", 404, "api.not_found")
        self.refused(f"connections?node={'x' * 100}", 404, "api.not_found")

    def test_users(self) -> None:
        for number, user in enumerate(("bob", "alice", "bob")):
            self.add(f"c{number}", user)
        told = self.ask("users").json["users"]
        self.assertEqual(told, [{"userId": "alice", "connections": 1}, {"userId": "bob", "connections": 2}])
        page = self.ask("users?limit=1").json
        self.assertEqual((len(page["users"]), page["next"]), (1, "alice"))
        self.assertEqual(self.ask("users?after=alice").json["users"][0]["userId"], "bob")

    def test_connection(self) -> None:
        """All that is known, and no secret."""
        made = self.add("c1", "alice", "lobby")
        made.session_id = "its-secret-id"
        answer = self.ask("connections/c1")
        told = answer.json
        self.assertEqual((told["userId"], told["roomIds"], told["roles"]), ("alice", ["lobby"], ["guest"]))
        self.assertEqual(told["expiresAt"], 1_700_000_100_000)
        self.assertNotIn(b"its-secret-id", answer.body)
        self.refused("connections/c9", 404, "api.not_found")
        self.refused("connections/count/x", 404, "api.not_found")

    def test_history(self) -> None:
        for number in range(3):
            publication = Publication(
                "room:message",
                b'{"text":"%d"}' % number,
                Audience(rooms=frozenset({"lobby"})),
                str(number),
                1,
                history=True,
            )
            self.successResultOf(self.node.broker.publish(publication))
        told = self.ask("rooms/lobby/history?limit=2").json
        self.assertEqual([one["text"] for one in told["messages"]], ["1", "2"])
        told = self.ask("rooms/lobby/history?before=2").json
        self.assertEqual([one["text"] for one in told["messages"]], ["0"])
        self.refused("rooms/lobby/history?before=x", 400, "message.invalid")
        self.refused("rooms/no%20room/history", 400, "room.invalid_id")

    def test_scopes(self) -> None:
        """A key for reading is for figures and lists; what users say to each other takes one that may end
        their sessions."""
        self.add("c1", "alice")
        self.node.guard.policy.api_keys.replace(
            [ApiKey("reader", digest("reading"), scopes=frozenset({"read"}))]
        )
        for path in ("nodes", "users", "connections", "connections/c1"):
            self.assertEqual(self.ask(path, "reading").status, 200, path)
        for path in ("connections/c1/events", "rooms/lobby/history"):
            self.assertEqual(self.ask(path, "reading").status, 403, path)


class StreamTests(LookCase):
    def begin(self, query: str = "") -> Exchange:
        exchange = self.connect()
        exchange.send(
            f"GET /v1/connections/c1/events{query} HTTP/1.1\r\nHost: s\r\n"
            f"Authorization: Bearer {KEY}\r\n\r\n".encode()
        )
        return exchange

    @staticmethod
    def data(exchange: Exchange) -> list[Any]:
        text = exchange.transport.value().decode()
        return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]

    def test_stream(self) -> None:
        """Events come as they happen, each with the number to go on after; and the end is told."""
        made = self.add("c1", "alice")
        outlet = made.outlet
        exchange = self.begin()
        self.assertIn(b"text/event-stream", exchange.transport.value())
        made.outlet.write(Frame(b"one"))
        self.clock.advance(look.LOOK_EVERY)
        made.outlet.write(Frame(b"two"))
        self.clock.advance(look.LOOK_EVERY)
        self.assertEqual([one["text"] for one in self.data(exchange)], ["one", "two"])
        self.assertIn(b"id: 2\n", exchange.transport.value())
        self.assertNotIn(b"event: end", exchange.transport.value())
        self.node.connections.remove(made)
        made.outlet.write(Frame(b"last"))
        self.clock.advance(look.LOOK_EVERY)
        self.assertEqual([one.get("text") for one in self.data(exchange)], ["one", "two", "last", None])
        self.assertIn(b"event: end", exchange.transport.value())
        again = self.begin("?after=2")
        self.assertEqual([one.get("text") for one in self.data(again)], ["last", None])
        self.assertIsInstance(outlet, MemoryOutlet)

    def test_nobody(self) -> None:
        self.refused("connections/c1/events", 404, "api.not_found")
        self.add("c1", "alice")
        self.refused("connections/c1/events?after=x", 400, "message.invalid")

    def test_reader_goes(self) -> None:
        """When the reader has gone nothing goes on; and so many may read."""
        self.add("c1", "alice")
        readers = [self.begin() for _ in range(look.MAX_STREAMS)]
        self.refused("connections/c1/events", 503, "connection.limit")
        for reader in readers:
            reader.transport.loseConnection()
        self.clock.advance(look.LOOK_EVERY)
        self.assertIn(b"200", self.begin().transport.value()[:15])

    def test_bounded(self) -> None:
        """A stream ends after so many bytes, which might wait for a reader who does not read."""
        made = self.add("c1", "alice")
        self.patch(look, "STREAM_BYTES", 3000)
        exchange = self.begin()
        for _ in range(3):
            made.outlet.write(Frame(b"x" * 1500))
            self.clock.advance(look.LOOK_EVERY)
        self.assertEqual(len(self.data(exchange)), 2)
        self.assertTrue(exchange.transport.value().endswith(b"0\r\n\r\n"))
        quiet = self.begin("?after=3")
        self.clock.advance(look.STREAM_SECONDS)
        self.assertTrue(quiet.transport.value().endswith(b"0\r\n\r\n"))
