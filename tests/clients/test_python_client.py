"""python-socketio's client: with handlers of one argument, and as it comes."""

from __future__ import annotations

from typing import Any

from . import journey
from .case import LiveCase
from .drivers import Client


class PythonSocketIOTests(LiveCase):
    """Two users of python-socketio do all that users do."""

    async def _journey(self, **options: Any) -> tuple[Client, Client]:
        await self.start_service(ROOM_TYPING_TIMEOUT="400")
        driver = await self.start_python()
        alice = self.open(driver, "alice", **options)
        bob = self.open(driver, "bob", **options)
        await alice.connected()
        await bob.connected()
        await journey.whole(self, alice, bob, "lobby")
        return alice, bob

    async def test_without_recovery(self) -> None:
        """With ``recovery: false`` every event has exactly one argument, over both transports."""
        for client in await self._journey(auth={"recovery": False}, arity=1):
            for report in client.reports:
                if report["report"] == "event":
                    self.assertEqual(len(report["args"]), 1, report)

    async def test_without_recovery_by_polling(self) -> None:
        """The same by long-polling only."""
        await self._journey(auth={"recovery": False}, arity=1, transports=["polling"])

    async def test_as_it_comes(self) -> None:
        """Without a word about recovery its handlers get the offset of a logged event as well."""
        alice, _ = await self._journey(transports=["websocket"])
        for args in alice.arguments("room:message"):
            self.assertEqual([type(arg) for arg in args], [dict, str])
        for args in alice.arguments("user:offline") + alice.arguments("system:error"):
            self.assertEqual([type(arg) for arg in args], [dict])

    async def test_bad_token(self) -> None:
        """A bad token is told as CONNECT_ERROR with its code."""
        await self.start_service()
        driver = await self.start_python()
        client = self.open(driver, None, auth={"token": "no.such.token"})
        refused = await client.report("connect_error")
        self.assertEqual(refused["data"]["code"], "auth.token_invalid")

    async def test_comes_back(self) -> None:
        """After a cut the client comes back by itself and is in its user's rooms again."""
        service = await self.start_service()
        driver = await self.start_python()
        client = await self.connect(driver, "alice", transports=["websocket"], auth={"recovery": False})
        client.cut("rude")
        await client.report("disconnect")
        await client.connected()
        self.assertEqual((await service.publish("notification:new", {"userId": "alice"})).status, 200)
        await client.event("notification:new")
