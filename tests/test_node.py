"""The node as a whole: its listeners, its room for connections, its drain."""

from __future__ import annotations

import json
import time
from copy import copy
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close
from realtime.heartbeat import PATIENCE
from realtime.node import Node
from realtime.settings import ConfigError, Settings
from realtime.trust.interface import Ban

from .house import SECRET, House
from .transport.peer import CLOSE, Peer

SOCKET = "/socket.io/?EIO=4&transport=websocket"


class _AtTheDoor(SynchronousTestCase):
    """Clients in memory that come in through the node's own listeners."""

    def house(self, **settings: Any) -> House:
        house = House(**settings)
        self.addCleanup(house.stop)
        return house

    def peer(self, house: House, listener: int = 0) -> Peer:
        return Peer(house.clock.tcpServers[listener][1], house.clock)

    def websocket(self, house: House, user: str | None = None) -> tuple[int, Peer]:
        peer = self.peer(house)
        status = peer.upgrade(SOCKET).status
        if status == 101 and user is not None:
            peer.say("40" + json.dumps({"token": house.token(user)}))
        return status, peer


class ListenTests(_AtTheDoor):
    """Which ports, where."""

    def test_four_listeners(self) -> None:
        """Clients, API, health and metrics have a port each, with a long queue of connections."""
        house = self.house(port=1, api_port=2, health_check_port=3, metrics_port=4)
        servers = house.clock.tcpServers
        self.assertEqual([server[0] for server in servers], [1, 2, 3, 4])
        self.assertEqual({server[2] for server in servers}, {4096})
        self.assertEqual({server[3] for server in servers}, {"127.0.0.1"})

    def test_addresses(self) -> None:
        """Clients are served on BIND_ADDRESS, all else on API_BIND_ADDRESS."""
        house = self.house(bind_address="127.0.0.2", api_bind_address="127.0.0.3")
        addresses = [server[3] for server in house.clock.tcpServers]
        self.assertEqual(addresses, ["127.0.0.2"] + ["127.0.0.3"] * 3)

    def test_each_serves_its_own(self) -> None:
        """What is on one port is not on the others."""
        house = self.house()
        paths = ("/socket.io/?EIO=4&transport=polling", "/v1/rooms", "/health/ready", "/metrics")
        key = {"Authorization": "Bearer the key of the api"}
        for listener in range(4):
            for place, path in enumerate(paths):
                status = self.peer(house, listener).ask("GET", path, **key).status
                self.assertEqual(status, 200 if place == listener else 404, (listener, path))

    def test_port_in_use(self) -> None:
        """A port that can't be bound is named with its setting, and the others are let go."""
        clock = MemoryReactorClock()
        listen = clock.listenTCP

        def busy(port: int, *args: Any, **kw: Any) -> Any:
            if port == 8080:
                raise CannotListenError(kw["interface"], port, OSError(98, "Address already in use"))
            return listen(port, *args, **kw)

        self.patch(clock, "listenTCP", busy)
        settings = Settings(jwt_secret=SECRET, api_key="the key of the api")
        node = Node(settings, clock=clock, wall=clock.seconds)
        error = self.assertRaises(ConfigError, node.privilegedStartService)
        self.assertIn("HEALTH_CHECK_PORT=8080", str(error))
        self.assertIn("127.0.0.1", str(error))
        self.assertIn("already in use", str(error))


class CompressionTests(_AtTheDoor):
    """WS_COMPRESSION_THRESHOLD."""

    def encoding(self, threshold: int) -> str | None:
        house = self.house(ws_compression_threshold=threshold)
        path = "/socket.io/?EIO=4&transport=polling"
        opened = self.peer(house).ask("GET", path)
        path += "&sid=" + json.loads(opened.body[1:])["sid"]
        token = json.dumps({"token": house.token("alice")})
        self.peer(house).ask("POST", path, f"40{token}".encode())
        poll = self.peer(house).ask("GET", path, Accept_Encoding="gzip")
        return poll.headers.get("content-encoding")

    def test_threshold(self) -> None:
        """A polling answer of so many bytes is compressed for who takes it; a smaller one is not."""
        self.assertEqual((self.encoding(10), self.encoding(10_000)), ("gzip", None))


class CapacityTests(_AtTheDoor):
    """WS_MAX_CONNECTIONS."""

    def test_full(self) -> None:
        """One connection more than there is room for gets 503, and room that is freed is given away."""
        house = self.house(ws_max_connections=2)
        peers = [self.websocket(house, f"u{n}") for n in range(3)]
        self.assertEqual([status for status, _ in peers], [101, 101, 503])
        poll = self.peer(house).ask("GET", "/socket.io/?EIO=4&transport=polling")
        self.assertEqual((poll.status, poll.json["code"]), (503, "connection.limit"))
        peers[0][1].wire.hang_up()
        self.assertEqual(self.websocket(house)[0], 101)

    def test_who_owes_a_pong_makes_room(self) -> None:
        """The connection that has owed its pong the longest is evicted, so that it comes back."""
        house = self.house(ws_max_connections=2, ws_connection_timeout=1000.0)
        (_, silent), (_, answering) = (self.websocket(house, name) for name in ("a", "b"))
        silent.read()
        answering.read()
        house.clock.advance(house.node.settings.ws_ping_interval)
        answering.say("3")
        self.assertEqual(self.websocket(house, "c")[0], 503)
        house.clock.advance(PATIENCE)
        self.assertEqual(self.websocket(house, "c")[0], 101)
        opcode, payload = silent.frames()[-1]
        self.assertEqual((opcode, int.from_bytes(payload[:2], "big")), (CLOSE, Close.EVICTED.number))
        self.assertEqual(house.node.connections.users, 2)

    def test_one_address(self) -> None:
        """An address that begins too many is refused for a while; others are let in."""
        house = self.house(rate_limit_address_handshakes=3)
        self.assertEqual([self.websocket(house)[0] for _ in range(4)], [101, 101, 101, 429])
        refused = self.peer(house).upgrade(SOCKET)
        poll = self.peer(house).ask("GET", "/socket.io/?EIO=4&transport=polling")
        for answer in (refused, poll):
            self.assertEqual(answer.headers["retry-after"], "20")
            for name in ("content-security-policy", "referrer-policy", "x-content-type-options"):
                self.assertIn(name, answer.headers)
        self.assertEqual((poll.status, poll.json["code"]), (429, "rate.limited"))
        self.assertEqual(poll.json["retryAfter"], 20_000)
        other = Peer(house.clock.tcpServers[0][1], house.clock, "198.51.100.7")
        self.assertEqual(other.upgrade(SOCKET).status, 101)
        house.clock.advance(20)
        self.assertEqual(self.websocket(house)[0], 101)

    def test_memory(self) -> None:
        """Past MAX_MEMORY_BYTES nobody new comes in; who is here stays, and is served."""
        house = self.house(max_memory_bytes=1)
        self.assertEqual(self.websocket(house)[0], 503)
        ready = self.peer(house, 2).ask("GET", "/health/ready")
        self.assertEqual((ready.status, ready.json["causes"]), (503, ["memory_limit"]))
        self.assertEqual(self.peer(house, 2).ask("GET", "/health/live").status, 200)
        house = self.house(max_memory_bytes=1 << 50)
        status, peer = self.websocket(house, "alice")
        self.assertEqual(status, 101)
        peer.read()
        house.node.pulse.limit = 1
        house.clock.pump([0.25] * 4)
        self.assertEqual(self.websocket(house)[0], 503)
        peer.say('421["room:join",{"roomId":"lobby"}]')
        self.assertIn(b'431[{"ok":true', peer.read())

    def test_dry_run(self) -> None:
        house = self.house(rate_limit_address_handshakes=1, rate_limit_dry_run=True)
        self.assertEqual([self.websocket(house)[0] for _ in range(3)], [101] * 3)
        value = house.node.metrics.registry.get_sample_value
        self.assertEqual(value("realtime_rate_limited_total", {"scope": "handshake"}), 2)

    def test_nobodies(self) -> None:
        """Who does not log in makes room for the next, and nobody else has to."""
        house = self.house(max_pending_logins=4)
        alice = self.websocket(house, "alice")[1]
        nobodies = [self.websocket(house)[1] for _ in range(5)]
        closes = [[opcode for opcode, _ in peer.frames()][-1] == CLOSE for peer in nobodies]
        self.assertEqual(closes, [True, True, True, False, False])
        self.assertTrue(alice.wire.connected)
        self.assertEqual(self.websocket(house, "bob")[0], 101)
        self.assertEqual(house.node.connections.users, 2)


class FigureTests(_AtTheDoor):
    """What the metrics read off the node."""

    def test_figures(self) -> None:
        """What is bounded is counted: sessions, channels, bytes of the logs, sockets without a session."""
        house = self.house()
        _, peer = self.websocket(house, "alice")
        self.peer(house)
        house.publish("booking:created", {"userId": "alice"})
        value = house.node.metrics.registry.get_sample_value
        figures = ("sessions", "channels", "log_entries", "strangers")
        self.assertEqual([value(f"realtime_{name}") for name in figures], [1, 2, 1, 1])
        self.assertGreater(value("realtime_log_bytes"), 20)
        house.node.guard.trust.ban(Ban("block", "mallory"))
        self.websocket(house)
        trust = ("bans", "pending_logins", "limited_users", "jwks_age_seconds")
        self.assertEqual([value(f"realtime_{name}") for name in trust], [1, 1, 0, -1])
        self.assertEqual(
            value("realtime_connections", {"protocol": "socketio", "transport": "websocket"}), 1
        )
        peer.wire.hang_up()
        self.assertEqual(
            value("realtime_connections", {"protocol": "socketio", "transport": "websocket"}), 0
        )

    def test_requests(self) -> None:
        """Requests of services are counted by what they ask for and the status that they get."""
        house = self.house()
        key = {"Authorization": "Bearer the key of the api"}
        self.peer(house, 1).ask("GET", "/v1/rooms", **key)
        self.peer(house, 1).ask("GET", "/v1/rooms/a:/members", **key)
        self.peer(house, 1).ask("GET", "/v1/nothing", **key)
        self.peer(house, 1).ask("GET", "/v1/rooms")
        value = house.node.metrics.registry.get_sample_value
        counts = [
            value("realtime_api_requests_total", {"verb": verb, "status": status})
            for verb, status in (("rooms", "200"), ("members", "400"), ("other", "404"), ("other", "401"))
        ]
        self.assertEqual(counts, [1, 1, 1, 1])

    def test_refreshes(self) -> None:
        house = self.house()
        client = house.client("alice")
        client.call("auth:token_refresh", {"token": house.token("alice")})
        client.call("auth:token_refresh", {"token": house.token("bob")})
        value = house.node.metrics.registry.get_sample_value
        counts = [
            value("realtime_token_refreshes_total", {"result": name}) for name in ("renewed", "refused")
        ]
        self.assertEqual(counts, [1, 1])

    def test_cost_of_a_scrape(self) -> None:
        """With 10,000 connections metrics are read in less than 50 ms of processor time."""
        house = self.house(rate_limit_max_connections=10_000, max_memory_bytes=1 << 50)
        first = house.client("alice").receiver
        (connection,) = house.node.connections
        made = [copy(connection) for _ in range(9_999)]
        for number, one in enumerate(made):
            one.id = f"c{number}"
            house.node.connections.add(one)
        self.assertIsNotNone(first)
        took = []
        for _ in range(5):
            began = time.process_time()
            answer = self.peer(house, 3).ask("GET", "/metrics")
            took.append(time.process_time() - began)
        self.assertIn(b'{protocol="socketio",transport="websocket"} 10000.0', answer.body)
        self.assertLess(min(took), 0.05)


class DrainTests(_AtTheDoor):
    """Stopping."""

    def test_drain(self) -> None:
        """Not ready, told of it, closed so that they come back, gone."""
        house = self.house()
        _, peer = self.websocket(house, "alice")
        peer.read()
        done = house.node.stopService()
        health = self.peer(house, 2).ask("GET", "/health/ready")
        self.assertEqual((health.status, health.json["causes"]), (503, ["draining"]))
        live = self.peer(house, 2).ask("GET", "/health/live")
        self.assertEqual(live.status, 200)
        self.assertEqual(self.websocket(house)[0], 503)
        self.assertNoResult(done)
        (told, (opcode, payload)) = peer.frames()
        self.assertIn(b"system:maintenance", told[1])
        self.assertEqual((opcode, int.from_bytes(payload[:2], "big")), (CLOSE, Close.DRAIN.number))
        peer.wire.hang_up()
        house.clock.pump([0.1] * 3)
        self.successResultOf(done)
        self.assertFalse(house.node.broker.alive())

    def test_clients_that_stay(self) -> None:
        """Who does not go does not hold up the end for longer than DRAIN_TIMEOUT."""
        house = self.house(drain_timeout=3.0)
        _, peer = self.websocket(house, "alice")
        peer.wire.stalled = True
        peer.wire.lost = lambda reason: None
        done = house.node.stopService()
        house.clock.pump([0.1] * 20)
        self.assertNoResult(done)
        house.clock.pump([0.1] * 12)
        self.successResultOf(done)

    def test_settle(self) -> None:
        """For DRAIN_SETTLE the node is not ready, and serves who comes all the same."""
        house = self.house(drain_settle=5.0)
        done = house.node.stopService()
        self.assertEqual(self.peer(house, 2).ask("GET", "/health/ready").status, 503)
        status, peer = self.websocket(house, "alice")
        self.assertEqual(status, 101)
        house.clock.advance(4.9)
        self.assertNotIn(CLOSE, [opcode for opcode, _ in peer.frames()])
        house.clock.advance(0.2)
        self.assertIn(CLOSE, [opcode for opcode, _ in peer.frames()])
        self.assertEqual(self.websocket(house)[0], 503)
        peer.wire.hang_up()
        house.clock.pump([0.1] * 3)
        self.successResultOf(done)

    def test_hurry(self) -> None:
        """Told again, it waits for nobody."""
        house = self.house(drain_settle=5.0, drain_rate=1, drain_timeout=60.0)
        peers = [self.websocket(house, f"u{n}")[1] for n in range(20)]
        done = house.node.stopService()
        house.clock.advance(1)
        house.node.hurry()
        closed = [any(opcode == CLOSE for opcode, _ in peer.frames()) for peer in peers]
        self.assertEqual(closed, [True] * 20)
        house.clock.pump([0.1] * 12)
        self.successResultOf(done)

    def test_nobody_there(self) -> None:
        """A node without clients is gone at once."""
        self.successResultOf(self.house().node.stopService())
