"""What one user may ask for at most, and that nobody else is harmed by one who asks for more."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.task import deferLater

from .case import LiveCase

LOST = "a connection ended"


class LimitTests(LiveCase):
    """Rate of messages, number of connections, size of messages."""

    async def test_messages_of_one_user(self) -> None:
        """Past the rate a message is refused with the time to wait; after that time it is taken."""
        await self.start_service(RATE_LIMIT_MAX_MESSAGES="10", RATE_LIMIT_WINDOW_MS="2000")
        driver = await self.start_node()
        alice, second, bob = [await self.connect(driver, user) for user in ("alice", "alice", "bob")]
        for client in (alice, bob):
            self.accepted(await client.call("room:join", {"roomId": "lobby"}))
        answers = [await alice.call("room:message", {"roomId": "lobby", "text": "!"}) for _ in range(14)]
        refused = [answer for answer in answers if not answer["ok"]]
        self.assertGreater(len(refused), 0)
        error = self.refused(refused[0], "rate.limited")
        self.assertGreater(error["retryAfter"], 0)
        self.assertLessEqual(error["retryAfter"], 2000)
        self.accepted(await bob.call("room:message", {"roomId": "lobby", "text": "mine"}))
        last = self.refused(await second.call("room:join", {"roomId": "lobby"}), "rate.limited")
        await deferLater(reactor, last["retryAfter"] / 1000)
        self.accepted(await second.call("room:join", {"roomId": "lobby"}))
        await self.barrier(alice, bob)
        taken = len(answers) - len(refused)
        mine = [message for message in bob.events("room:message") if message["userId"] == "alice"]
        self.assertEqual(len(mine), taken)
        counted = await self.service.metric("realtime_refusals_total", code="rate.limited")
        self.assertEqual(counted, len(refused) + 1)

    async def test_sixth_connection(self) -> None:
        """Past five connections of a user the next one is closed with a code that says: come back."""
        await self.start_service()
        driver = await self.start_node()
        tabs = [await self.connect(driver, "alice", transports=["websocket"]) for _ in range(5)]
        bob = await self.connect(driver, "bob")
        sixth = self.open(driver, "alice", transports=["websocket"], reconnection=False)
        ended = await sixth.take(lambda report: report["report"] in ("disconnect", "connect_error"), LOST)
        self.assertNotEqual(ended.get("data"), {"code": "connection.limit"}, "it would never come back")
        self.assertEqual(sixth.events("system:connected"), [])
        polling = self.open(driver, "alice", transports=["polling"], reconnection=False)
        await polling.take(lambda report: report["report"] in ("disconnect", "connect_error"), LOST)
        self.assertEqual(polling.events("system:connected"), [])
        await self.barrier(*tabs, bob)
        for tab in (*tabs, bob):
            self.assertEqual([one for one in tab.reports if one["report"] == "disconnect"], [])

    async def test_a_place_that_gets_free(self) -> None:
        """The client over the limit gets in by itself once another tab is closed."""
        await self.start_service(RATE_LIMIT_MAX_CONNECTIONS="1")
        driver = await self.start_node()
        first = await self.connect(driver, "alice")
        second = self.open(driver, "alice", transports=["websocket"])
        await second.take(lambda report: report["report"] in ("disconnect", "connect_error"), LOST)
        first.disconnect()
        await second.event("system:connected", userId="alice")

    async def test_too_large_a_message(self) -> None:
        """A message over WS_MAX_MESSAGE_BYTES ends its connection, which comes back; others stay."""
        await self.start_service(WS_MAX_MESSAGE_BYTES="20000")
        driver = await self.start_node()
        bob = await self.connect(driver, "bob")
        for transport in ("websocket", "polling"):
            client = await self.connect(driver, "alice", transports=[transport])
            self.accepted(await client.call("room:join", {"roomId": "lobby"}))
            largest = {"roomId": "lobby", "data": "x" * 15000}
            self.accepted(await client.call("room:message", largest))
            client.emit("room:message", {"roomId": "lobby", "data": "x" * 30000})
            await client.report("disconnect")
            await client.connected()
        await self.barrier(bob)
