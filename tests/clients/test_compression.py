"""WS_COMPRESSION with real clients: Node's ws under all three protocols, Autobahn for Python, Chromium."""

from __future__ import annotations

from itertools import count

from .case import LiveCase
from .drivers import Client

ROOM = "event:42"


class CompressionTests(LiveCase):
    """Each offers permessage-deflate by itself, as its library does."""

    async def test_all(self) -> None:
        page = self.start_page()
        await self.start_service(
            WS_COMPRESSION="true",
            WS_COMPRESSION_THRESHOLD="200",
            RATE_LIMIT_MAX_CONNECTIONS="50",
            WS_ALLOWED_ORIGINS=page.origin,
        )
        node, autobahn = await self.start_node(), await self.start_autobahn()
        chromium, pages = await self.start_chromium(page), await self.start_chromium(page, "/wamp")
        only = {"transports": ["websocket"]}
        names = (f"user{number}" for number in count())
        clients = [
            self.open(node, next(names), perMessageDeflate={"threshold": 100}, **only),
            self.open(chromium, next(names), **only),
            self.direct(node, next(names), "plain"),
            self.direct(pages, next(names), "plain"),
            self.direct(pages, next(names), "wamp", serializer="json"),
            *(self.direct(node, next(names), "wamp", serializer=name) for name in ("json", "cbor")),
            *(
                self.direct(autobahn, next(names), "wamp", serializer=name, compression=True)
                for name in ("json", "msgpack")
            ),
        ]
        for client in clients:
            await client.connected()
        compressed = await self.service.metric("realtime_websockets_compressed_total")
        self.assertEqual(compressed, len(clients))
        # one that does not offer it is in the room, too
        clients.append(self.direct(autobahn, "plain", "wamp", serializer="json"))
        await clients[-1].connected()
        self.assertEqual(await self.service.metric("realtime_websockets_compressed_total"), compressed)
        for client in clients:
            self.accepted(await client.call("room:join", {"roomId": ROOM}))
        texts = [await self._said(client, n) for n, client in enumerate(clients)]
        await self.barrier(*clients)
        for client in clients:
            seen = [message["text"] for message in client.events("room:message")]
            self.assertEqual(seen, texts, client)

    async def _said(self, client: Client, number: int) -> str:
        text = f"{number} " + "Grüße, und noch einmal: " * 100
        self.accepted(await client.call("room:message", {"roomId": ROOM, "text": text}))
        return text
