"""Two workers of a node, over real sockets: who holds the session is who answers."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from realtime.addresses import Proxies
from realtime.transport import local
from realtime.transport.door import DoorFactory
from realtime.transport.engine import EngineServer, EngineSocket
from realtime.transport.neighbours import Neighbours
from realtime.transport.origins import Origins
from realtime.transport.polling import PollingResource
from realtime.transport.site import Site
from realtime.transport.websocket import WebSockets
from realtime.wire.session import Frame

from ..clients.raw import Raw, frame, opened, request, upgrade
from .peer import Recorder

POLLING = "/engine.io/?EIO=4&transport=polling"
WEBSOCKET = "/engine.io/?EIO=4&transport=websocket"


class Worker:
    """One worker's client port.

    :ivar port: where clients connect.
    """

    def __init__(self, directory: str, prefix: str) -> None:
        clock: Any = reactor
        self.recorders: list[Recorder] = []
        self.addresses: list[str] = []
        self.engine = EngineServer(
            clock=clock,
            ping_interval=25.0,
            ping_timeout=20.0,
            max_payload=100_000,
            max_queue_bytes=1_000_000,
            origins=Origins(["https://app.example.com"]),
            accept=self.accept,
            admit=self.addresses.append,
        )
        self.websockets = WebSockets(clock, max_message=100_000, message_timeout=10.0)
        self.doors = DoorFactory(
            clock=clock,
            site=Site({"/engine.io": PollingResource(self.engine)}),
            upgrades={"/engine.io": self.engine},
            websockets=self.websockets,
            head_timeout=5.0,
            body_timeout=10.0,
            proxies=Proxies(("127.0.0.2",)),
            proxy_protocol=True,
        )
        self.neighbours = Neighbours(clock, directory, prefix)
        self.engine.neighbours = self.doors.neighbours = self.neighbours
        path = self.neighbours.socket(prefix)
        self.unix = clock.listenUNIX(path, self.neighbours.receiver(self.doors), mode=0o600)

    def accept(self, socket: EngineSocket) -> Recorder:
        self.recorders.append(Recorder(socket))
        return self.recorders[-1]

    async def listen(self) -> None:
        self.tcp = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.doors)
        self.port = self.tcp.getHost().port

    async def stop(self) -> None:
        for one in list(self.engine.sessions.values()):
            one.end("test")
        await self.tcp.stopListening()
        await self.unix.stopListening()
        while self.doors.sockets or self.websockets.countConnections:
            await deferLater(reactor, 0)


class NeighbourTests(TestCase):
    """A session at the second worker, whose client comes to the first."""

    timeout = 60

    async def start(self) -> None:
        # a path of a Unix socket has 107 bytes at most
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.one, self.two = Worker(self.directory, "1x1"), Worker(self.directory, "2x1")
        self.raws: list[Raw] = []
        self.addCleanup(self.finish)
        await self.one.listen()
        await self.two.listen()
        raw = await self.open(self.two, request("GET", POLLING))
        self.sid = opened((await raw.answer())[2])["sid"]
        self.assertTrue(self.sid.startswith("2x1."))
        self.socket = self.two.recorders[0].socket

    async def finish(self) -> None:
        for raw in self.raws:
            raw.drop()
        await self.one.stop()
        await self.two.stop()

    async def open(self, worker: Worker, data: bytes = b"", own: str | None = None) -> Raw:
        raw = await Raw.open(worker.port, data, own=own)
        self.raws.append(raw)
        return raw

    @property
    def mine(self) -> str:
        return f"{POLLING}&sid={self.sid}"

    async def test_passed(self) -> None:
        """The first request on a socket takes it along: from then on it is the other worker's."""
        await self.start()
        raw = await self.open(self.one, request("POST", self.mine, b"4hello"))
        self.assertEqual((await raw.answer())[::2], (200, b"ok"))
        self.assertEqual(self.two.recorders[0].messages, ["hello"])
        self.assertEqual((self.one.doors.sockets, self.two.doors.sockets), (0, 2))
        self.socket.write(Frame(b"4there"))
        raw.send(request("GET", self.mine))
        self.assertEqual((await raw.answer())[2], b"4there")
        # and who holds it notices its end
        raw.send(request("GET", self.mine))
        while not self.socket.carrier.leaving:
            await deferLater(reactor, 0.01)
        raw.drop()
        while not self.two.recorders[0].ends:
            await deferLater(reactor, 0.01)

    async def test_passed_with_a_body_in_parts(self) -> None:
        """What was read before goes with it, what comes later comes to the other."""
        await self.start()
        whole = request("POST", self.mine, b"4" + b"x" * 5000)
        raw = await self.open(self.one, whole[:-4000])
        while self.one.doors.sockets:
            await deferLater(reactor, 0.01)
        raw.send(whole[-4000:])
        self.assertEqual((await raw.answer())[0], 200)
        self.assertEqual(self.two.recorders[0].messages, ["x" * 5000])

    async def test_a_websocket(self) -> None:
        """A client that upgrades on a new socket, as all do."""
        await self.start()
        raw = await self.open(self.one, upgrade(f"{WEBSOCKET}&sid={self.sid}") + frame(b"2probe"))
        await raw.until(b"3probe")
        raw.send(frame(b"5"))
        while self.socket.transport != "websocket":
            await deferLater(reactor, 0.01)
        self.socket.write(Frame(b"4here"))
        await raw.until(b"4here")
        self.assertEqual(
            (self.one.websockets.countConnections, self.two.websockets.countConnections), (0, 1)
        )

    async def test_on_a_socket_that_is_in_use(self) -> None:
        """A balancer's socket, with requests of one client after another."""
        await self.start()
        raw = await self.open(self.one, request("GET", POLLING))
        own = opened((await raw.answer())[2])["sid"]
        raw.send(request("POST", self.mine, b"4hello", Origin="https://app.example.com"))
        status, headers, body = await raw.answer()
        self.assertEqual((status, body), (200, b"ok"))
        self.assertEqual(headers["access-control-allow-origin"], "https://app.example.com")
        self.assertEqual(headers["content-type"], "text/html")
        raw.send(request("POST", f"{POLLING}&sid={own}", b"4own"))
        self.assertEqual((await raw.answer())[0], 200)
        self.socket.write(Frame(b"4" + b"x" * 5000))
        raw.send(request("GET", self.mine, Accept_Encoding="gzip"))
        status, headers, body = await raw.answer()
        self.assertEqual((status, headers["content-encoding"]), (200, "gzip"))
        self.assertEqual(self.one.recorders[0].messages, ["own"])
        self.assertEqual(self.two.recorders[0].messages, ["hello"])

    async def test_a_client_that_leaves_meanwhile(self) -> None:
        """The other worker hears that the poll that it holds is gone."""
        await self.start()
        raw = await self.open(self.one, request("GET", POLLING))
        await raw.answer()
        raw.send(request("GET", self.mine))
        while not self.socket.carrier.leaving:
            await deferLater(reactor, 0.01)
        raw.drop()
        while not self.two.recorders[0].ends:
            await deferLater(reactor, 0.01)
        self.assertEqual(self.two.recorders[0].ends, ["transport_error"])

    async def test_a_websocket_on_a_socket_that_is_in_use(self) -> None:
        """It goes through the first worker, both ways, and its end, too."""
        await self.start()
        raw = await self.open(self.one, request("GET", POLLING))
        await raw.answer()
        raw.send(upgrade(f"{WEBSOCKET}&sid={self.sid}"))
        await raw.until(b"\r\n\r\n")
        raw.send(frame(b"2probe"))
        await raw.until(b"3probe")
        raw.send(frame(b"5") + frame(b"4hello"))
        while not self.two.recorders[0].messages:
            await deferLater(reactor, 0.01)
        self.socket.write(Frame(b"4" + b"x" * 500_000))
        await raw.until(b"x" * 500_000)
        self.assertEqual(self.socket.transport, "websocket")
        self.socket.end("test")
        await raw.until(b"\x88\x02\x03\xe8")
        raw.send(frame(b"\x03\xe8", 8))
        await raw.until_closed()

    async def test_a_client_that_leaves_a_websocket(self) -> None:
        await self.start()
        raw = await self.open(self.one, request("GET", POLLING))
        await raw.answer()
        raw.send(upgrade(f"{WEBSOCKET}&sid={self.sid}") + frame(b"2probe"))
        await raw.until(b"3probe")
        raw.send(frame(b"5"))
        while self.socket.transport != "websocket":
            await deferLater(reactor, 0.01)
        raw.drop()
        while not self.two.recorders[0].ends:
            await deferLater(reactor, 0.01)

    async def test_whose_it_is(self) -> None:
        """The address that the other sees is the client's, as a proxy has told it."""
        await self.start()
        head = b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 443\r\n"
        told = request("GET", POLLING, X_Forwarded_For="203.0.113.7")
        for send, expected in ((head + request("GET", POLLING), "203.0.113.9"), (told, "127.0.0.1")):
            raw = await self.open(self.two, send, own="127.0.0.2" if send is not told else None)
            sid = opened((await raw.answer())[2])["sid"]
            self.assertEqual(self.two.addresses[-1], expected)
            own = "127.0.0.2" if send is not told else None
            first = head if own else b""
            again = await self.open(self.one, first + request("POST", f"{POLLING}&sid={sid}", b"4x"), own)
            self.assertEqual((await again.answer())[0], 200)

    async def test_nobody_there(self) -> None:
        """A worker that has gone, one that never was, and what is no id: an unknown session."""
        await self.start()
        gone = os.path.join(self.directory, "3x1.peer")
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(gone)
        for sid in ("3x1.abc", "4x1.abc", "../x.abc", "1x1.abc", "abc", "2x1.abc"):
            raw = await self.open(self.one, request("GET", f"{POLLING}&sid={sid}"))
            status, _, body = await raw.answer()
            self.assertEqual((status, b'"code":1' in body), (400, True), sid)
            raw = await self.open(self.one, request("GET", POLLING))
            await raw.answer()
            raw.send(request("POST", f"{POLLING}&sid={sid}", b"4x"))
            self.assertEqual((await raw.answer())[0], 400, sid)
            raw.send(upgrade(f"{WEBSOCKET}&sid={sid}"))
            self.assertEqual((await raw.answer())[0], 400, sid)

    async def test_many_at_once(self) -> None:
        """A hundred clients, all at the wrong worker."""
        await self.start()
        raws = [await self.open(self.one) for _ in range(100)]
        for n, raw in enumerate(raws):
            opening = await self.open(self.two, request("GET", POLLING))
            sid = opened((await opening.answer())[2])["sid"]
            raw.send(request("POST", f"{POLLING}&sid={sid}", b"4%d" % n))
        for raw in raws:
            self.assertEqual((await raw.answer())[0], 200)
        self.assertEqual([r.messages for r in self.two.recorders[1:]], [[str(n)] for n in range(100)])

    async def test_rubbish(self) -> None:
        """What a neighbour would not say ends its connection, and nothing else."""
        await self.start()
        path = self.two.neighbours.socket("2x1")
        for data in (b"x\n", b"{}\n", b"y" * 2000, b'{"address":"1.2.3.4","given":3}\nabc'):
            answer: Deferred[local.Answer] = local.exchange(reactor, path, data)
            await self.assertFailure(answer, local.NoAnswer)
        self.flushLoggedErrors()
        raw = await self.open(self.one, request("POST", self.mine, b"4hello"))
        self.assertEqual((await raw.answer())[0], 200)


class OwnerTests(SynchronousTestCase):
    """Whose session a query names."""

    def test_owner(self) -> None:
        neighbours = Neighbours(None, "/dir", "1xa")
        self.assertEqual(neighbours.sid_prefix, "1xa.")
        for query, owner in {
            b"EIO=4&sid=2x1.abc": "/dir/2x1.peer",
            b"sid=12xff.abc&t=1": "/dir/12xff.peer",
            b"sid=1xa.abc": None,
            b"sid=2x1.a&sid=1xa.b": None,
            b"xsid=2x1.abc": None,
            b"sid=2x1abc": None,
            b"sid=../1x1.abc": None,
            b"sid=": None,
            b"": None,
        }.items():
            self.assertEqual(neighbours.owner(query), owner, query)
