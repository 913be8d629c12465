"""Presence over several tabs: who is told what, and when."""

from __future__ import annotations

from .case import TRANSPORTS, LiveCase
from .drivers import Client

ROOM = "event:42"


class PresenceTests(LiveCase):
    """Bob watches Alice come and go with two tabs."""

    async def _tab(self, bob: Client, user: str = "alice", **options: object) -> Client:
        driver = self.driver
        auth = {"token": self.token(user, rooms=[ROOM])}
        client = self.open(driver, None, auth=auth, **options)
        await client.connected()
        return client

    async def _watcher(self, **environ: str) -> Client:
        await self.start_service(**environ)
        self.driver = await self.start_node()
        bob = await self.connect(self.driver, "bob")
        self.accepted(await bob.call("room:join", {"roomId": ROOM}))
        return bob

    def _told(self, bob: Client) -> list[str]:
        return [
            report["event"]
            for report in bob.reports
            if report["report"] == "event" and report["args"][0].get("userId") == "alice"
        ]

    async def test_first_and_last_tab(self) -> None:
        """Online with the first tab, offline with the last; the second comes and goes unnoticed."""
        bob = await self._watcher()
        first = await self._tab(bob)
        await bob.event("user:online", userId="alice")
        second = await self._tab(bob)
        shown = await self.service.request("GET", "/v1/users/alice/presence")
        self.assertEqual((shown.status, shown.body["status"]), (200, "online"))
        await self.barrier(bob)
        self.assertCountEqual(self._told(bob), ["user:online", "room:user_joined"])
        first.disconnect()
        await first.report("disconnect")
        await self.barrier(bob, second)
        self.assertCountEqual(self._told(bob), ["user:online", "room:user_joined"])
        second.disconnect()
        await bob.event("user:offline", userId="alice", status="offline")
        await bob.event("room:user_left", userId="alice")
        members = await self.service.request("GET", f"/v1/rooms/{ROOM}/members")
        self.assertEqual([one["userId"] for one in members.body["members"]], ["bob"])
        await self.barrier(bob)
        told = ["user:online", "room:user_joined", "user:offline", "room:user_left"]
        self.assertCountEqual(self._told(bob), told)

    async def test_status_is_the_users(self) -> None:
        """A status chosen in one tab is every tab's, and outlives that tab."""
        bob = await self._watcher()
        first, second = [await self._tab(bob) for _ in range(2)]
        self.accepted(await first.call("user:presence", {"status": "away", "text": "back at 5"}))
        told = await bob.event("user:status_change", userId="alice")
        self.assertEqual((told["status"], told["text"]), ("away", "back at 5"))
        first.disconnect()
        await first.report("disconnect")
        joined = self.accepted(await bob.call("room:join", {"roomId": ROOM}))
        status = {one["userId"]: one["status"] for one in joined["members"]}
        self.assertEqual(status["alice"], "away")
        await self.barrier(bob, second)
        self.assertNotIn("user:offline", self._told(bob))

    async def test_a_cut_is_not_the_end(self) -> None:
        """Who comes back within the grace was never offline, over any transport."""
        bob = await self._watcher(PRESENCE_GRACE="20000")
        for options in TRANSPORTS.values():
            tab = await self._tab(bob, **options)
            tab.cut()
            await tab.report("disconnect")
            self.assertIs((await tab.connected())["recovered"], True)
            await self.barrier(bob, tab)
            self.assertNotIn("user:offline", self._told(bob))
            tab.disconnect()
            await bob.event("user:offline", userId="alice")
            bob.forget()

    async def test_a_cut_for_long_is_the_end(self) -> None:
        """Who does not come back within the grace is offline, and has left the rooms."""
        bob = await self._watcher(PRESENCE_GRACE="200", PRESENCE_INTERVAL="100")
        proxy = self.start_proxy()
        tab = await self._tab(bob, url=proxy.url, transports=["websocket"])
        await bob.event("user:online", userId="alice")
        proxy.cut()
        await bob.event("user:offline", userId="alice")
        await bob.event("room:user_left", userId="alice")
        proxy.mend()
        await tab.connected()
        await bob.event("user:online", userId="alice")

    async def test_strangers_are_not_told(self) -> None:
        """Users who share no room with Alice hear nothing of her."""
        bob = await self._watcher()
        stranger = await self.connect(self.driver, "carol")
        self.accepted(await stranger.call("room:join", {"roomId": "elsewhere"}))
        tab = await self._tab(bob)
        await bob.event("user:online", userId="alice")
        self.accepted(await tab.call("user:presence", {"status": "busy"}))
        tab.disconnect()
        await bob.event("user:offline", userId="alice")
        await self.barrier(stranger)
        self.assertEqual(self._told(stranger), [])
