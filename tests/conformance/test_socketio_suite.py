"""What the public Socket.IO 5 suite checks, over real sockets, against the application of `.socketio`."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from websocket import ABNF, WebSocket, WebSocketBadStatusException, WebSocketConnectionClosedException

from .process import port_of

P0 = '{"_placeholder":true,"num":0}'
P1 = '{"_placeholder":true,"num":1}'
POLLING = "EIO=4&transport=polling"
WEBSOCKET = "EIO=4&transport=websocket"

#: Seconds that no answer takes, however busy the machine.
PATIENCE = 30


class Polling:
    """A client that speaks Engine.IO by requests, one at a time unless told otherwise."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.query = POLLING
        self.handshake = json.loads(self.poll()[1:])
        self.query = f"{POLLING}&sid={self.handshake['sid']}"

    def begin(self, method: str = "GET", body: str | None = None) -> HTTPConnection:
        return begin(self.port, self.query, method, body)

    def poll(self) -> str:
        status, text = finish(self.begin())
        if status != 200:
            raise AssertionError(f"{status}: {text}")
        return text

    def post(self, body: str) -> tuple[int, str]:
        return finish(self.begin("POST", body))


def begin(port: int, query: str, method: str = "GET", body: str | None = None) -> HTTPConnection:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, f"/socket.io/?{query}", None if body is None else body.encode())
    return connection


def finish(connection: HTTPConnection) -> tuple[int, str]:
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


class Socket:
    """A client that speaks Engine.IO by WebSocket."""

    def __init__(self, port: int, query: str = WEBSOCKET) -> None:
        self.socket = WebSocket()
        self.socket.settimeout(PATIENCE)
        self.socket.connect(f"ws://127.0.0.1:{port}/socket.io/?{query}")

    def send(self, *frames: str | bytes) -> None:
        for frame in frames:
            self.socket.send(frame, ABNF.OPCODE_BINARY if isinstance(frame, bytes) else ABNF.OPCODE_TEXT)

    def receive(self) -> str | bytes | None:
        """The next message; None if the server has closed."""
        try:
            opcode, data = self.socket.recv_data()
        except (WebSocketConnectionClosedException, ConnectionResetError):
            return None
        if opcode == ABNF.OPCODE_CLOSE:
            return None
        return data.decode() if opcode == ABNF.OPCODE_TEXT else data

    def next(self) -> str | bytes | None:
        """The next message that is no ping; pings are answered."""
        while (message := self.receive()) == "2":
            self.socket.send("3")
        return message

    def connect(self, packet: str = "40") -> tuple[str, Any, str | bytes | None]:
        """CONNECT: what stands before the answer's payload, the payload, and the greeting that follows."""
        self.send(packet)
        answer = self.next()
        assert isinstance(answer, str)
        head, brace, payload = answer.partition("{")
        return head, json.loads(brace + payload), self.next()

    def close(self) -> None:
        self.socket.shutdown()


class SuiteCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = port_of("socketio")

    def opened(self, query: str = WEBSOCKET) -> Socket:
        socket = Socket(self.port, query)
        self.addCleanup(socket.close)
        return socket

    def connected(self) -> Socket:
        """A WebSocket connected to `/`, with all that comes first already read."""
        socket = self.opened()
        socket.next()
        self.assertEqual(socket.connect()[2], '42["auth",{}]')
        return socket

    def assert_handshake(self, handshake: dict[str, Any], upgrades: list[str]) -> None:
        self.assertIsInstance(handshake.pop("sid"), str)
        self.assertEqual(
            handshake,
            {"upgrades": upgrades, "pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000},
        )


class EngineTests(SuiteCase):
    def test_polling_handshake(self) -> None:
        self.assert_handshake(Polling(self.port).handshake, ["websocket"])

    def test_websocket_handshake(self) -> None:
        first = self.opened().receive()
        assert isinstance(first, str)
        self.assertEqual(first[0], "0")
        self.assert_handshake(json.loads(first[1:]), [])

    def test_bad_queries(self) -> None:
        for query in ["transport={}", "EIO=abc&transport={}", "EIO=4", "EIO=4&transport=abc"]:
            with self.subTest(query):
                self.assertEqual(finish(begin(self.port, query.format("polling")))[0], 400)
                with self.assertRaises(WebSocketBadStatusException) as caught:
                    self.opened(query.format("websocket"))
                self.assertEqual(caught.exception.status_code, 400)

    def test_bad_methods(self) -> None:
        for method in ("POST", "PUT"):
            self.assertEqual(finish(begin(self.port, POLLING, method, ""))[0], 400)

    def test_polling_heartbeat(self) -> None:
        client = Polling(self.port)
        for _ in range(3):
            self.assertEqual(client.poll(), "2")
            self.assertEqual(client.post("3"), (200, "ok"))

    def test_websocket_heartbeat(self) -> None:
        socket = self.connected()
        for _ in range(3):
            self.assertEqual(socket.receive(), "2")
            socket.send("3")

    def test_polling_ping_timeout(self) -> None:
        client = Polling(self.port)
        self.assertEqual(client.poll(), "2")
        # The next poll is held until the timeout ends it, or comes after that.
        finish(client.begin())
        self.assertEqual(finish(client.begin())[0], 400)

    def test_websocket_ping_timeout(self) -> None:
        socket = self.connected()
        self.assertEqual([socket.receive(), socket.receive()], ["2", None])

    def test_polling_close(self) -> None:
        client = Polling(self.port)
        poll = client.begin()
        self.assertEqual(client.post("1"), (200, "ok"))
        self.assertEqual(finish(poll), (200, "6"))
        self.assertEqual(finish(client.begin())[0], 400)

    def test_websocket_close(self) -> None:
        socket = self.opened()
        socket.receive()
        socket.send("1")
        self.assertIsNone(socket.next())

    def test_upgrade(self) -> None:
        client = Polling(self.port)
        socket = self.opened(f"{WEBSOCKET}&sid={client.handshake['sid']}")
        socket.send("2probe")
        self.assertEqual(socket.receive(), "3probe")
        socket.send("5")
        self.assertEqual(socket.connect()[2], '42["auth",{}]')
        self.assertEqual(finish(client.begin())[0], 400)

    def test_a_second_websocket_for_an_upgraded_session(self) -> None:
        client = Polling(self.port)
        query = f"{WEBSOCKET}&sid={client.handshake['sid']}"
        first = self.opened(query)
        first.send("2probe", "5")
        self.assertEqual(first.receive(), "3probe")
        first.connect()
        try:
            second = self.opened(query)
        except WebSocketBadStatusException as error:
            self.assertEqual(error.status_code, 400)
        else:
            self.assertIsNone(second.next())


class ConnectTests(SuiteCase):
    def test_main_namespace(self) -> None:
        for packet, greeting in [
            ("40", '42["auth",{}]'),
            ('40{"token":"123"}', '42["auth",{"token":"123"}]'),
        ]:
            socket = self.opened()
            socket.next()
            head, payload, auth = socket.connect(packet)
            self.assertEqual((head, list(payload), auth), ("40", ["sid"], greeting))
            self.assertIsInstance(payload["sid"], str)

    def test_custom_namespace(self) -> None:
        for packet, greeting in [
            ("40/custom,", '42/custom,["auth",{}]'),
            ('40/custom,{"token":"abc"}', '42/custom,["auth",{"token":"abc"}]'),
        ]:
            socket = self.opened()
            socket.next()
            head, payload, auth = socket.connect(packet)
            self.assertEqual((head, list(payload), auth), ("40/custom,", ["sid"], greeting))
            self.assertIsInstance(payload["sid"], str)

    def test_unknown_namespace(self) -> None:
        socket = self.opened()
        socket.next()
        socket.send("40/random")
        self.assertEqual(socket.next(), '44/random,{"message":"Invalid namespace"}')

    def test_invalid_handshake(self) -> None:
        socket = self.opened()
        socket.next()
        socket.send("4abc")
        self.assertIsNone(socket.next())

    def test_no_handshake(self) -> None:
        """Pings are answered: it is the connect timeout that closes."""
        socket = self.opened()
        socket.next()
        self.assertIsNone(socket.next())

    def test_by_polling(self) -> None:
        client = Polling(self.port)
        client.post(f'40{{"a":"ж"}}\x1e451-["message",{P0}]\x1ebAP8=\x1e427["message-with-ack",1]')
        packets: list[str] = []
        while len(packets) < 5:
            for packet in client.poll().split("\x1e"):
                if packet == "2":
                    client.post("3")
                else:
                    packets.append(packet)
        self.assertTrue(packets.pop(0).startswith('40{"sid":'))
        self.assertEqual(
            sorted(packets),
            sorted([f'451-["message-back",{P0}]', "bAP8=", "437[1]", '42["auth",{"a":"ж"}]']),
        )


class DisconnectTests(SuiteCase):
    def test_main_namespace(self) -> None:
        socket = self.connected()
        socket.send("41")
        self.assertEqual(socket.receive(), "2")

    def test_custom_namespace(self) -> None:
        socket = self.connected()
        socket.connect("40/custom")
        socket.send("41/custom", '42["message","message to main namespace"]')
        self.assertEqual(socket.next(), '42["message-back","message to main namespace"]')


class MessageTests(SuiteCase):
    def test_messages(self) -> None:
        for sent, answer in [
            (['42["message",1,"2",{"3":[true]}]'], ['42["message-back",1,"2",{"3":[true]}]']),
            (
                [f'452-["message",{P0},{P1}]', b"\x01\x02\x03", b"\x04\x05\x06"],
                [f'452-["message-back",{P0},{P1}]', b"\x01\x02\x03", b"\x04\x05\x06"],
            ),
            (['42456["message-with-ack",1,"2",{"3":[false]}]'], ['43456[1,"2",{"3":[false]}]']),
            (
                [f'452-789["message-with-ack",{P0},{P1}]', b"\x01\x02\x03", b"\x04\x05\x06"],
                [f"462-789[{P0},{P1}]", b"\x01\x02\x03", b"\x04\x05\x06"],
            ),
        ]:
            with self.subTest(sent):
                socket = self.connected()
                socket.send(*sent)
                self.assertEqual([socket.next() for _ in answer], answer)

    def test_invalid_formats_close(self) -> None:
        for packet in ["4abc", "42{}", '42abc["message-with-ack",1,"2",{"3":[false]}]']:
            with self.subTest(packet):
                socket = self.connected()
                socket.send(packet)
                self.assertIsNone(socket.next())
