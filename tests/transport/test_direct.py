"""Clients of /ws through the whole client port, in memory: negotiation, credentials, pings, ends."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ..house import House
from .peer import CLOSE, PING, PONG, TEXT, Answer, Peer, frame

PAGE = "https://app.example.com"


class DirectCase(SynchronousTestCase):
    """A house with a client port."""

    def house(self, **settings: Any) -> House:
        house = House(**settings)
        self.addCleanup(house.stop)
        return house

    def peer(self, house: House) -> Peer:
        factory = next(factory for port, factory, *_ in house.clock.tcpServers if port == 3003)
        return Peer(factory, house.clock)

    def ask(self, house: House, target: str = "/ws", **headers: str) -> tuple[Peer, Answer]:
        peer = self.peer(house)
        return peer, peer.upgrade(target, **headers)

    def open(self, house: House, target: str = "/ws", **headers: str) -> Peer:
        peer, answer = self.ask(house, target, **headers)
        self.assertEqual(answer.status, 101, answer.body)
        return peer

    def log_in(self, peer: Peer, token: str) -> None:
        peer.say(json.dumps({"event": "auth:login", "data": {"token": token}}))
        self.assertEqual(self.events(peer), ["system:connected"])

    def events(self, peer: Peer) -> list[str]:
        return [json.loads(text)["event"] for text in peer.said()]


class NegotiationTests(DirectCase):
    """RFC 6455 section 1.9: the first of the client's that is spoken here."""

    def test_chosen(self) -> None:
        house = self.house()
        for offered, chosen in [
            ("realtime.v1.json", "realtime.v1.json"),
            ("no.such, realtime.v1.json", "realtime.v1.json"),
            (None, None),
        ]:
            headers = {} if offered is None else {"Sec_WebSocket_Protocol": offered}
            _, answer = self.ask(house, **headers)
            self.assertEqual(answer.status, 101)
            self.assertEqual(answer.headers.get("sec-websocket-protocol"), chosen)

    def test_none_that_is_spoken(self) -> None:
        """It is said which are."""
        house = self.house()
        for offered in (
            "no.such",
            "",
            ",",
            "wamp.2.json.batched",
            ", ".join(["x"] * 16 + ["realtime.v1.json"]),
        ):
            _, answer = self.ask(house, Sec_WebSocket_Protocol=offered)
            self.assertEqual((answer.status, answer.json["code"]), (400, "websocket.subprotocol"), offered)
            self.assertIn("realtime.v1.json", answer.json["message"])

    def test_path(self) -> None:
        """WS_DIRECT_PATH moves it; the paths of the two servers do not mix."""
        house = self.house(ws_direct_path="/elsewhere")
        self.open(house, "/elsewhere")
        _, answer = self.ask(house, "/ws")
        self.assertEqual(answer.status, 404)

    def test_origin(self) -> None:
        house = self.house(ws_allowed_origins=("https://app.example.com",))
        self.open(house, Origin="https://app.example.com")
        _, answer = self.ask(house, Origin="https://evil.example.com")
        self.assertEqual((answer.status, answer.json["code"]), (403, "forbidden"))

    def test_no_origin(self) -> None:
        """Who names none is refused where that is required, or a browser says that another's page asks."""
        house = self.house(ws_require_origin=True, ws_allowed_origins=(PAGE,))
        for target in ("/ws", "/socket.io/?EIO=4&transport=websocket"):
            _, answer = self.ask(house, target)
            self.assertEqual(answer.status, 403)
            self.open(house, target, Sec_Fetch_Site="same-origin")
            self.open(house, target, Origin=PAGE)
            _, answer = self.ask(self.house(), target, Sec_Fetch_Site="cross-site")
            self.assertEqual(answer.status, 403)
            self.open(self.house(), target)

    def test_full(self) -> None:
        """WS_MAX_CONNECTIONS counts all protocols together; one that owes a pong makes room."""
        house = self.house(ws_max_connections=2)
        first = self.open(house)
        self.open(house, "/socket.io/?EIO=4&transport=websocket")
        for target in ("/ws", "/socket.io/?EIO=4&transport=websocket"):
            _, answer = self.ask(house, target)
            self.assertEqual((answer.status, answer.json["code"]), (503, "connection.limit"))
        self.log_in(first, house.token())
        # the other pings first: it is answered, so that only the first is in debt
        house.node.engine.heartbeat.stop(next(iter(house.node.engine.sessions.values())))
        house.clock.advance(25)
        house.clock.advance(6)
        self.open(house)
        self.assertEqual(first.frames()[-1][0], CLOSE)


class CredentialTests(DirectCase):
    def test_header(self) -> None:
        house = self.house()
        peer = self.open(house, Authorization=f"Bearer {house.token()}")
        self.assertEqual(self.events(peer), ["system:connected"])

    def test_bad_header(self) -> None:
        """It is told, and closed with a code that says not to come back."""
        peer = self.open(self.house(), Authorization="Bearer bad")
        (_, told), (opcode, close) = peer.frames()
        self.assertEqual(json.loads(told)["data"]["code"], "auth.token_invalid")
        self.assertEqual((opcode, int.from_bytes(close[:2], "big")), (CLOSE, 4503))

    def test_cookie(self) -> None:
        """Only the one that WS_TOKEN_COOKIE names."""
        house = self.house(ws_token_cookie="session", ws_allowed_origins=(PAGE,))
        token = house.token()
        for cookie in (f"session={token}", f'a=b; session="{token}"; c=d'):
            self.assertEqual(
                self.events(self.open(house, Cookie=cookie, Origin=PAGE)), ["system:connected"]
            )
            # a browser that says of no page who asks
            self.assertEqual(self.events(self.open(house, Cookie=cookie)), [])
        for cookie in (f"sessions={token}", f"x={token}", "session=", "session"):
            self.assertEqual(self.events(self.open(house, Cookie=cookie, Origin=PAGE)), [])
        other = self.open(self.house(ws_allowed_origins=(PAGE,)), Cookie=f"session={token}", Origin=PAGE)
        self.assertEqual(self.events(other), [])

    def test_query(self) -> None:
        """Only where WS_QUERY_TOKEN allows it."""
        for allowed, events in [(True, ["system:connected"]), (False, [])]:
            house = self.house(ws_query_token=allowed)
            self.assertEqual(self.events(self.open(house, f"/ws?token={house.token()}")), events)


class LifeTests(DirectCase):
    def test_heartbeat(self) -> None:
        """Pinged each WS_PING_INTERVAL by WebSocket; gone WS_PING_TIMEOUT after a ping not answered."""
        house = self.house(ws_connection_timeout=1e6)
        peer = self.open(house)
        for _ in range(3):
            house.clock.advance(25)
            self.assertEqual(peer.frames(), [(PING, b"")])
            peer.send(frame(PONG))
        house.clock.advance(25)
        house.clock.advance(59)
        self.assertEqual(peer.frames(), [(PING, b"")])
        house.clock.advance(1)
        ((opcode, close),) = peer.frames()
        self.assertEqual((opcode, int.from_bytes(close[:2], "big")), (CLOSE, 4008))
        self.assertEqual(len(house.node.direct), 0)

    def test_pings_of_the_client(self) -> None:
        """Those of WebSocket, and those of the protocol; who sends the latter gets them too."""
        house = self.house(ws_connection_timeout=1e6)
        peer = self.open(house)
        peer.send(frame(PING, b"x"))
        peer.say('{"event":"ping"}')
        self.assertEqual(peer.frames(), [(PONG, b"x"), (TEXT, b'{"event":"pong"}')])
        house.clock.advance(25)
        self.assertEqual(peer.frames(), [(PING, b""), (TEXT, b'{"event":"ping"}')])

    def test_drain(self) -> None:
        """SIGTERM closes with the code that says to come back, and waits for the close."""
        house = House()
        peer = self.open(house)
        self.log_in(peer, house.token())
        stopped = house.node.stopService()
        house.clock.advance(0.1)
        frames = peer.frames()
        self.assertEqual(json.loads(frames[0][1])["event"], "system:maintenance")
        self.assertEqual((frames[1][0], int.from_bytes(frames[1][1][:2], "big")), (CLOSE, 4000))
        self.assertNoResult(stopped)
        peer.send(frame(CLOSE, frames[1][1]))
        house.clock.pump([0.1] * 5)
        self.successResultOf(stopped)

    def test_slow_reader(self) -> None:
        """Past WS_MAX_QUEUE_BYTES it is closed, with nothing more written, and may recover."""
        house = self.house(ws_max_queue_bytes=20_000)
        peer = self.open(house)
        self.log_in(peer, house.token("alice"))
        peer.wire.stalled, peer.wire.mark = True, 1000
        for n in range(30):
            house.publish("booking:created", {"userId": "alice", "pad": "x" * 2000, "n": n})
            house.clock.advance(0)
        self.assertEqual(len(house.node.direct), 1)
        house.clock.advance(2.1)
        self.assertTrue(peer.gone)
        self.assertEqual(len(house.node.direct), 0)

    def test_metrics(self) -> None:
        """It counts among the connections of the transport that carries it."""
        house = self.house()
        self.log_in(self.open(house), house.token())
        value = house.node.metrics.registry.get_sample_value
        self.assertEqual(value("realtime_connections", {"protocol": "plain", "transport": "websocket"}), 1)
        self.ask(house, Sec_WebSocket_Protocol="x")
        self.assertEqual(value("realtime_handshakes_refused_total", {"code": "unknown_subprotocol"}), 1)
