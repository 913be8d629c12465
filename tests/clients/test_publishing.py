"""The main job: a service publishes ``booking:confirmed``, and one user's tabs have it, nobody else's."""

from __future__ import annotations

import statistics

from twisted.internet import reactor

from .case import TRANSPORTS, LiveCase
from .drivers import Client, Driver

USERS = ("alice", "bob", "carol")


class BookingTests(LiveCase):
    """Three users with two tabs each, and a service that publishes over HTTP."""

    async def _tabs(self, driver: Driver) -> dict[str, list[Client]]:
        transports = list(TRANSPORTS.values())
        tabs = {
            user: [self.open(driver, user, **transports[(at + tab) % 3]) for tab in range(2)]
            for at, user in enumerate(USERS)
        }
        for clients in tabs.values():
            for client in clients:
                await client.connected()
        return tabs

    async def _only_alice(self, tabs: dict[str, list[Client]]) -> None:
        booking = {"userId": "alice", "bookingId": 7, "seats": ["A1", "A2"], "note": "✓"}
        answer = await self.service.publish("booking:confirmed", booking)
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(set(answer.body), {"id", "offset", "audience"})
        await self.barrier()
        for user, clients in tabs.items():
            for client in clients:
                received = client.events("booking:confirmed")
                for payload in received:
                    self.assertIsInstance(payload.pop("timestamp"), int)
                self.assertEqual(received, [booking] if user == "alice" else [], client)

    async def test_reaches_the_user_and_nobody_else(self) -> None:
        """Both of the user's tabs receive it once; the other four tabs receive nothing."""
        await self.start_service()
        await self._only_alice(await self._tabs(await self.start_node()))

    async def test_in_chromium(self) -> None:
        """The same in six tabs of a real browser, on a page of another origin."""
        page = self.start_page()
        await self.start_service(WS_ALLOWED_ORIGINS=page.origin)
        await self._only_alice(await self._tabs(await self.start_chromium(page)))

    async def test_without_owner(self) -> None:
        """A booking that names no user is refused with a clear error, counted, and reaches nobody."""
        service = await self.start_service()
        clients = [await self.connect(await self.start_node(), user) for user in USERS]
        answer = await service.publish("booking:confirmed", {"bookingId": 7})
        self.assertEqual((answer.status, answer.body["error"]["code"]), (400, "publish.no_owner"))
        self.assertIn("userId", answer.body["error"]["message"])
        counted = await service.metric(
            "realtime_publications_total", kind="booking", outcome="publish.no_owner"
        )
        self.assertEqual(counted, 1)
        await self.barrier()
        for client in clients:
            self.assertEqual(client.events("booking:confirmed"), [])

    async def test_message_id_is_delivered_once(self) -> None:
        """A publication repeated under its messageId answers as the first did and is not delivered."""
        service = await self.start_service()
        client = await self.connect(await self.start_node(), "alice")
        first, second = [
            await service.publish("booking:confirmed", {"userId": "alice", "try": n}, "order-7")
            for n in range(2)
        ]
        self.assertEqual((first.status, second.status), (200, 200))
        self.assertEqual(
            (first.body["id"], first.body["offset"]), (second.body["id"], second.body["offset"])
        )
        other = await service.publish("booking:updated", {"userId": "alice"}, "order-7")
        self.assertNotEqual(other.body["id"], first.body["id"])
        await self.barrier()
        self.assertEqual([payload["try"] for payload in client.events("booking:confirmed")], [0])
        self.assertEqual(len(client.events("booking:updated")), 1)

    async def test_latency(self) -> None:
        """From the HTTP request to the client's handler takes milliseconds."""
        service = await self.start_service()
        client = await self.connect(await self.start_node(), "alice", transports=["websocket"])
        took = []
        for n in range(30):
            began = reactor.seconds()
            await service.publish("booking:confirmed", {"userId": "alice", "n": n})
            await client.event("booking:confirmed", n=n)
            took.append((reactor.seconds() - began) * 1000)
        told = f"median {statistics.median(took):.1f} ms, most {max(took):.1f} ms"
        print(f"\n  publish to client: {told}")
        self.assertLess(statistics.median(took), 1000, told)
