"""What a user does not want to receive: kept for the user, in every tab, and after a cut."""

from __future__ import annotations

from .case import LiveCase


class PreferencesTests(LiveCase):
    """Alice mutes, Bob talks."""

    async def test_muting(self) -> None:
        """What is muted reaches no tab of the user, live or replayed, until it is muted no more."""
        service = await self.start_service()
        proxy = self.start_proxy()
        driver = await self.start_node()
        bob = await self.connect(driver, "bob")
        alice = await self.connect(driver, "alice", url=proxy.url)
        for client in (alice, bob):
            for room in ("loud", "lobby"):
                self.accepted(await client.call("room:join", {"roomId": room}))
        wish = {"mutedRooms": ["loud"], "mutedEvents": ["notification:new"]}
        self.assertEqual(self.accepted(await alice.call("user:preferences", wish)), wish)
        second = await self.connect(driver, "alice")
        self.assertEqual(self.accepted(await second.call("user:preferences", {})), wish)
        self.accepted(await second.call("room:join", {"roomId": "loud"}))

        async def tell_all(n: int) -> None:
            for room in ("loud", "lobby"):
                self.accepted(await bob.call("room:message", {"roomId": room, "data": n}))
            for channel in ("notification:new", "notification:read"):
                await service.publish(channel, {"userId": "alice", "n": n})

        await tell_all(1)
        await self.barrier(alice, second)
        proxy.cut()
        await alice.report("disconnect")
        await tell_all(2)
        proxy.mend()
        self.assertIs((await alice.connected())["recovered"], True)
        await self.barrier(alice)
        heard = [(message["roomId"], message["data"]) for message in alice.events("room:message")]
        self.assertEqual(heard, [("lobby", 1), ("lobby", 2)])
        for tab in (alice, second):
            self.assertEqual(tab.events("notification:new"), [])
            self.assertEqual([told["n"] for told in tab.events("notification:read")], [1, 2])
        self.assertEqual(second.events("room:message"), [])
        nothing: dict[str, list[str]] = {"mutedRooms": [], "mutedEvents": []}
        self.assertEqual(self.accepted(await second.call("user:preferences", nothing)), nothing)
        await tell_all(3)
        await alice.event("room:message", roomId="loud", data=3)
        for tab in (alice, second):
            await tab.event("notification:new", n=3)
