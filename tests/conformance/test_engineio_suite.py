"""What the public Engine.IO 4 suite checks, over real sockets, against the echo of `.engineio`."""

from __future__ import annotations

import json
import time

from twisted.trial.unittest import SynchronousTestCase
from websocket import WebSocketBadStatusException

from .client import POLLING, WEBSOCKET, Requests, Socket, finish
from .process import port_of

PATH = "/engine.io"

#: Seconds after its beginning at which a session without a pong is gone: interval and timeout.
ALIVE = 0.3 + 0.2


class SuiteCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = port_of("engineio")
        self.requests = Requests(self.port, PATH)

    def connect(self, query: str = WEBSOCKET) -> Socket:
        socket = Socket(self.port, PATH, query)
        self.addCleanup(socket.close)
        return socket

    def opened(self) -> Socket:
        """A session by WebSocket whose handshake is read."""
        socket = self.connect()
        socket.receive()
        return socket

    def assert_gone(self, session: str) -> None:
        self.assertEqual(self.requests.ask(session)[0], 400)

    def assert_handshake(self, text: object, upgrades: list[str]) -> None:
        assert isinstance(text, str)
        self.assertEqual(text[0], "0")
        handshake = json.loads(text[1:])
        self.assertIsInstance(handshake.pop("sid"), str)
        self.assertEqual(
            handshake,
            {"upgrades": upgrades, "pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000},
        )


class HandshakeTests(SuiteCase):
    def test_polling(self) -> None:
        status, text = self.requests.ask(POLLING)
        self.assertEqual(status, 200)
        self.assert_handshake(text, ["websocket"])

    def test_websocket(self) -> None:
        self.assert_handshake(self.connect().receive(), [])

    def test_wrong_queries(self) -> None:
        for query in ("transport={}", "EIO=abc&transport={}", "EIO=4", "EIO=4&transport=abc"):
            self.assertEqual(self.requests.ask(query.format("polling"))[0], 400)
            with self.assertRaises(WebSocketBadStatusException) as caught:
                self.connect(query.format("websocket"))
            self.assertEqual(caught.exception.status_code, 400)

    def test_wrong_methods(self) -> None:
        for method in ("POST", "PUT"):
            self.assertEqual(self.requests.ask(POLLING, method)[0], 400)


class MessageTests(SuiteCase):
    def test_polling(self) -> None:
        for payload in ("4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA=="):
            session = self.requests.open()
            self.assertEqual(self.requests.ask(session, "POST", payload.encode()), (200, "ok"))
            self.assertEqual(self.requests.ask(session), (200, payload))

    def test_polling_a_wrong_packet(self) -> None:
        session = self.requests.open()
        self.assertEqual(self.requests.ask(session, "POST", b"abc")[0], 400)
        self.assert_gone(session)

    def test_polling_twice_at_a_time(self) -> None:
        session = self.requests.open()
        first, second = self.requests.begin(session), self.requests.begin(session)
        self.assertEqual(finish(first), (200, "1"))
        self.assertEqual(finish(second)[0], 400)
        self.assert_gone(session)

    def test_polling_cancelled(self) -> None:
        session = self.requests.open()
        self.requests.begin(session).close()
        self.assert_gone(session)

    def test_websocket(self) -> None:
        socket = self.opened()
        for message in ("4hello", b"\x01\x02\x03\x04"):
            socket.send(message)
            self.assertEqual(socket.receive(), message)

    def test_websocket_a_wrong_packet(self) -> None:
        socket = self.opened()
        socket.send("abc")
        self.assertIsNone(socket.receive())


class HeartbeatTests(SuiteCase):
    def test_polling(self) -> None:
        session = self.requests.open()
        for _ in range(3):
            self.assertEqual(self.requests.ask(session), (200, "2"))
            self.assertEqual(self.requests.ask(session, "POST", b"3"), (200, "ok"))

    def test_polling_without_a_pong(self) -> None:
        session = self.requests.open()
        time.sleep(ALIVE)  # the time itself is what is checked
        self.assert_gone(session)

    def test_websocket(self) -> None:
        socket = self.opened()
        for _ in range(3):
            self.assertEqual(socket.receive(), "2")
            socket.send("3")

    def test_websocket_without_a_pong(self) -> None:
        socket = self.opened()
        self.assertEqual([socket.receive(), socket.receive()], ["2", None])


class CloseTests(SuiteCase):
    def test_polling(self) -> None:
        session = self.requests.open()
        waiting = self.requests.begin(session)
        self.assertEqual(self.requests.ask(session, "POST", b"1"), (200, "ok"))
        self.assertEqual(finish(waiting), (200, "6"))
        self.assert_gone(session)

    def test_websocket(self) -> None:
        socket = self.opened()
        socket.send("1")
        self.assertIsNone(socket.receive())


class UpgradeTests(SuiteCase):
    def probed(self) -> tuple[str, Socket]:
        """A session by long-polling whose WebSocket has been probed."""
        session = self.requests.open()
        socket = self.connect(session.replace("polling", "websocket"))
        socket.send("2probe")
        self.assertEqual(socket.receive(), "3probe")
        return session, socket

    def assert_echoes(self, socket: Socket) -> None:
        socket.send("4hello")
        self.assertEqual(socket.receive(), "4hello")

    def test_whole(self) -> None:
        session, socket = self.probed()
        self.assertEqual(self.requests.ask(session), (200, "6"))
        socket.send("5")
        self.assert_echoes(socket)

    def test_no_polls_afterwards(self) -> None:
        session, socket = self.probed()
        socket.send("5")
        self.assert_echoes(socket)
        self.assert_gone(session)
        self.assert_echoes(socket)

    def test_no_second_websocket_afterwards(self) -> None:
        session, socket = self.probed()
        socket.send("5")
        second = self.connect(session.replace("polling", "websocket"))
        self.assertIsNone(second.receive())
        self.assert_echoes(socket)
