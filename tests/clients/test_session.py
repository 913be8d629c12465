"""The official socket.io-client, unmodified, on Node: a whole session over each of its transports."""

from __future__ import annotations

from . import journey
from .case import TRANSPORTS, LiveCase

TYPING = "400"


class SocketIOClientTests(LiveCase):
    """Two users of socket.io-client do all that users do."""

    async def _journey(self, transport: str) -> None:
        service = await self.start_service(ROOM_TYPING_TIMEOUT=TYPING)
        driver = await self.start_node()
        alice = self.open(driver, "alice", **TRANSPORTS[transport])
        bob = self.open(driver, "bob", **TRANSPORTS[transport])
        for client, user in ((alice, "alice"), (bob, "bob")):
            connected = await client.connected()
            self.assertEqual(connected["userId"], user)
            self.assertIs(connected["recovered"], False)
            self.assertIsInstance(connected["connectionId"], str)
            self.assertGreater(connected["expiresAt"], connected["timestamp"])
        if transport == "upgrade":
            for client in (alice, bob):
                await client.report("upgrade", transport="websocket")
        await journey.whole(self, alice, bob, "event:42")
        state = await alice.state()
        self.assertEqual(state["transport"], "polling" if transport == "polling" else "websocket")
        bob.disconnect()
        await bob.report("disconnect", reason="io client disconnect")
        count = await service.request("GET", "/v1/connections/count")
        self.assertEqual(count.status, 200)

    async def test_websocket_only(self) -> None:
        """Over WebSocket from the first byte."""
        await self._journey("websocket")

    async def test_polling_only(self) -> None:
        """Over HTTP long-polling to the end."""
        await self._journey("polling")

    async def test_upgrade(self) -> None:
        """As the client does by itself: polling first, then WebSocket."""
        await self._journey("upgrade")

    async def test_mixed_transports_share_a_room(self) -> None:
        """A room's messages reach all transports in one order, while each of them sends."""
        await self.start_service()
        driver = await self.start_node()
        clients = [self.open(driver, name, **options) for name, options in TRANSPORTS.items()]
        for client in clients:
            await client.connected()
            self.accepted(await client.call("room:join", {"roomId": "lobby"}))
        for client in clients:
            client.flow(["lobby"], 60, 5, 3)
        for client in clients:
            self.assertEqual((await client.report("flowed"))["refused"], [])
        await self.barrier()
        seen = [
            [(message["userId"], message["data"]["n"]) for message in client.events("room:message")]
            for client in clients
        ]
        self.assertEqual(len(seen[0]), 180)
        self.assertEqual(seen[1:], seen[:1] * 2)
        for user in TRANSPORTS:
            self.assertEqual([n for sender, n in seen[0] if sender == user], list(range(60)))
