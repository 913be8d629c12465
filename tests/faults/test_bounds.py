"""Bounds on what one socket may cost: time to make itself clear, size, and silence."""

from __future__ import annotations

import zlib

from twisted.internet import reactor
from twisted.internet.task import LoopingCall

from tests.clients.case import LiveCase
from tests.clients.drivers import Client
from tests.clients.raw import POLLING, Raw, frame, request, upgrade

#: Seconds after which a bound of half a second must have worked, on a busy machine.
SOON = 8.0


class BoundsTests(LiveCase):
    """Each test has a bystander who must not be harmed."""

    async def _start(self, **environ: str) -> Client:
        await self.start_service(**environ)
        self.driver = await self.start_node()
        return await self.connect(self.driver, "alice", transports=["websocket"])

    async def _open(self, data: bytes = b"", listener: str = "PORT") -> Raw:
        raw = await Raw.open(self.service.ports[listener], data)
        self.addCleanup(raw.drop)
        return raw

    async def _unharmed(self, bystander: Client) -> None:
        await self.barrier(bystander)
        ended = [report for report in bystander.reports if report["report"] == "disconnect"]
        self.assertEqual(ended, [])

    async def _trickle(self, raw: Raw, data: bytes) -> float:
        """Send one byte after the other, slowly; how long until the service has closed, in seconds."""
        began = reactor.seconds()
        position = iter(range(len(data)))

        def send() -> None:
            at = next(position, None)
            if at is not None:
                raw.send(data[at : at + 1])

        loop = LoopingCall(send)
        loop.start(0.05)
        try:
            await raw.until_closed(SOON)
        finally:
            loop.stop()
        return reactor.seconds() - began

    async def test_slow_heads(self) -> None:
        """A head that trickles in, or never comes, is cut off after WS_HANDSHAKE_TIMEOUT."""
        bystander = await self._start(WS_HANDSHAKE_TIMEOUT="500")
        silent = await self._open()
        for head in (request("GET", POLLING, X="a" * 5000), upgrade(X="a" * 5000)):
            self.assertGreater(await self._trickle(await self._open(), head), 0.4)
        await silent.until_closed(SOON)
        await self._unharmed(bystander)

    async def test_slow_messages(self) -> None:
        """A body or a message that trickles in is cut off after WS_MESSAGE_TIMEOUT."""
        bystander = await self._start(WS_MESSAGE_TIMEOUT="500")
        posted = await self._open(request("GET", POLLING))
        body = await posted.until(b"}")
        sid = body.partition(b'"sid":"')[2].partition(b'"')[0].decode()
        post = request("POST", f"{POLLING}&sid={sid}", b"4" + b"x" * 5000)
        head, _, body = post.partition(b"\r\n\r\n")
        slow = await self._open(head + b"\r\n\r\n")
        await self._trickle(slow, body)
        socket = await self._open(upgrade())
        await socket.until(b"}")
        await self._trickle(socket, frame(b"4" + b"x" * 5000))
        fragments = await self._open(upgrade())
        await fragments.until(b"}")
        fragments.send(frame(b"4", final=False))
        await self._trickle(fragments, frame(b"x", 0, final=False) * 1000)
        await self._unharmed(bystander)

    async def test_large_heads(self) -> None:
        """A head over 16 KB is refused before it is whole."""
        bystander = await self._start()
        for flood in (b"X-Flood: " + b"a" * 60000, b"X: a\r\n" * 9000):
            raw = await self._open(b"GET / HTTP/1.1\r\nHost: a\r\n" + flood)
            answer = await raw.until_closed(SOON)
            self.assertIn(answer[9:12], (b"431", b"400", b""), answer[:100])
        await self._unharmed(bystander)

    async def test_large_bodies(self) -> None:
        """A body over the limit is refused by its length, or once it has grown over it, on any path."""
        bystander = await self._start(WS_MAX_MESSAGE_BYTES="20000")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        for listener, path in (("PORT", POLLING), ("PORT", "/nowhere"), ("API_PORT", "/v1/publish")):
            head = f"POST {path} HTTP/1.1\r\nHost: a\r\n"
            claimed = await self._open(f"{head}Content-Length: 300000000\r\n\r\n".encode(), listener)
            await claimed.until_closed(SOON)
            grown = await self._open(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), listener)
            grown.send(chunk * 40)
            await grown.until_closed(SOON)
        await self._unharmed(bystander)

    async def test_large_messages(self) -> None:
        """A message over the limit ends its connection by its claimed size, whole or in fragments."""
        bystander = await self._start(WS_MAX_MESSAGE_BYTES="20000")
        fragment = frame(b"x" * 9000, 0, final=False)
        for sent in (
            frame(b"4", size=20_000_001),
            frame(b"4" * 20001),
            frame(b"4", final=False) + fragment * 3,
            frame(b"4", size=2**63 - 1),
        ):
            raw = await self._open(upgrade())
            await raw.until(b"}")
            raw.send(sent)
            await raw.until_closed(SOON)
        await self._unharmed(bystander)

    async def test_empty_fragments(self) -> None:
        """A flood of empty fragments is cut off at once and costs next to nothing."""
        bystander = await self._start()
        raw = await self._open(upgrade())
        await raw.until(b"}")
        raw.send(frame(b"4", final=False) + frame(b"", 0, final=False) * 200_000)
        await raw.until_closed(SOON)
        await self._unharmed(bystander)

    async def test_compression_is_not_agreed(self) -> None:
        """A client that offers compression is served without: no message can be a bomb."""
        bystander = await self._start()
        offer = {"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits"}
        raw = await self._open(upgrade(**offer))
        head = await raw.until(b"\r\n\r\n")
        self.assertNotIn(b"deflate", head)
        await raw.until(b"}")
        bomb = zlib.compress(b"4" * 10_000_000)
        raw.send(frame(bomb, reserved=4))
        await raw.until_closed(SOON)
        await self._unharmed(bystander)

    async def test_idle_and_nobody(self) -> None:
        """Sockets that open a transport and say nothing end after WS_CONNECTION_TIMEOUT."""
        bystander = await self._start(WS_CONNECTION_TIMEOUT="500", WS_PING_INTERVAL="60000")
        silent = [await self._open(upgrade()) for _ in range(20)]
        nobody = [await self._open(upgrade() + frame(b"40{}")) for _ in range(20)]
        for raw in (*silent, *nobody):
            await raw.until_closed(SOON)
        polled = await self._open(request("GET", POLLING))
        sid = (await polled.until(b"}")).partition(b'"sid":"')[2].partition(b'"')[0].decode()
        waiting = await self._open(request("GET", f"{POLLING}&sid={sid}"))
        await waiting.answer(SOON)
        again = await self._open(request("GET", f"{POLLING}&sid={sid}"))
        self.assertEqual((await again.answer())[0], 400)
        await self._unharmed(bystander)

    async def test_slow_reader(self) -> None:
        """A client that does not read is closed past WS_MAX_QUEUE_BYTES; who reads gets everything."""
        bystander = await self._start(WS_MAX_QUEUE_BYTES="300000", WS_MAX_MESSAGE_BYTES="200000")
        self.accepted(await bystander.call("room:join", {"roomId": "lobby"}))
        raw = await self._open(upgrade())
        await raw.until(b"}")
        raw.send(frame(b'40{"token":"%b"}' % self.token("mallory").encode()))
        await raw.until(b"system:connected")
        raw.send(frame(b'420["room:join",{"roomId":"lobby"}]'))
        await raw.until(b"430")
        raw.transport.pauseProducing()
        before = self.service.rss()
        for n in range(150):
            sent = {"roomId": "lobby", "data": {"n": n, "filling": "x" * 100_000}}
            self.accepted(await bystander.call("room:message", sent))
        received = [message["data"]["n"] for message in bystander.events("room:message")]
        self.assertEqual(received, list(range(150)))
        self.assertEqual(await self.service.metric("realtime_slow_consumers_total", loss="must"), 1)

        async def gone() -> bool:
            count = await self.service.request("GET", "/v1/connections/count")
            return bool(count.body["connections"] == 1)

        await self.until(gone, "the slow reader to be gone")
        self.assertLess(self.service.rss() - before, 40_000_000)
        await self._unharmed(bystander)

    async def test_many_silent_sockets(self) -> None:
        """Twice as many silent sockets as connections are allowed lock nobody out."""
        bystander = await self._start(WS_MAX_CONNECTIONS="30", WS_HANDSHAKE_TIMEOUT="1000")
        silent = [await self._open() for _ in range(60)]
        other = await self.connect(self.driver, "bob", transports=["websocket"])
        await self._unharmed(other)
        for raw in silent:
            await raw.until_closed(SOON)
        await self._unharmed(bystander)

    async def test_doubled_requests_on_one_socket(self) -> None:
        """A second handshake, or frames, before the first is answered end the socket or are not run."""
        bystander = await self._start()
        twice = await self._open(upgrade() + upgrade())
        await twice.until_closed(SOON)
        early = await self._open(upgrade() + frame(b"40{}"))
        await early.until(b"40{")
        await self._unharmed(bystander)
