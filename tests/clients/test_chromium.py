"""A real headless Chromium: pages of another origin, with the official socket.io-client in each tab."""

from __future__ import annotations

from typing import Any

from . import journey
from .case import TRANSPORTS, LiveCase
from .drivers import Driver

ROOM = "event:42"


class ChromiumTests(LiveCase):
    """Tabs of one browser."""

    async def _browser(self, **environ: str) -> Driver:
        self.page = self.start_page()
        await self.start_service(WS_ALLOWED_ORIGINS=self.page.origin, **environ)
        return await self.start_chromium(self.page)

    async def test_journey(self) -> None:
        """Over each transport two tabs of two users do all that users do."""
        browser = await self._browser(ROOM_TYPING_TIMEOUT="400")
        for name, options in TRANSPORTS.items():
            alice = self.open(browser, "alice", **options)
            bob = self.open(browser, "bob", **options)
            for tab, user in ((alice, "alice"), (bob, "bob")):
                self.assertEqual((await tab.connected())["userId"], user)
                if name == "upgrade":
                    await tab.report("upgrade", transport="websocket")
            await journey.whole(self, alice, bob, f"event:{name}")
            for tab in (alice, bob):
                tab.disconnect()
                await tab.report("disconnect")

    async def test_recovery(self) -> None:
        """A tab whose network goes away and comes back has missed nothing, over each transport."""
        browser = await self._browser()
        sender = await self.connect(await self.start_node(), "bob")
        for name, options in TRANSPORTS.items():
            proxy = self.start_proxy()
            tab = await self.connect(browser, "alice", url=proxy.url, **options)
            for client in (tab, sender):
                self.accepted(await client.call("room:join", {"roomId": name}))
            numbers: list[int] = []
            for cut in range(3):
                proxy.cut(told=cut != 1)
                await tab.report("disconnect")
                sender.flow([name], 20, 1, 5)
                self.assertEqual((await sender.report("flowed"))["refused"], [])
                numbers += range(20)
                proxy.mend()
                connected = await tab.connected()
                self.assertEqual((connected["recovered"], connected["client"]["recovered"]), (True, True))
            await self.barrier(tab)
            self.assertEqual([one["data"]["n"] for one in tab.events("room:message")], numbers)
            tab.disconnect()
            await tab.report("disconnect")

    async def test_closed_tab(self) -> None:
        """Closing the last tab takes its user offline after the grace; closing another does not."""
        browser = await self._browser(PRESENCE_GRACE="300")
        bob = await self.connect(browser, "bob")
        self.accepted(await bob.call("room:join", {"roomId": ROOM}))
        tabs = []
        for _ in range(2):
            tab = self.open(browser, None, auth={"token": self.token("alice", rooms=[ROOM])})
            await tab.connected()
            tabs.append(tab)
        await bob.event("user:online", userId="alice")
        tabs[0].close()

        async def one_is_left() -> bool:
            shown = await self.service.request("GET", "/v1/users/alice/presence")
            return len(shown.body["metas"]) == 1

        await self.until(one_is_left, "the closed tab to be gone")
        await self.barrier(bob)
        self.assertEqual(bob.events("user:offline"), [])
        tabs[1].close()
        await bob.event("user:offline", userId="alice")

    async def test_refusals(self) -> None:
        """A page with a bad token is told why and stays away; a page of another origin gets nothing."""
        browser = await self._browser()
        for options in TRANSPORTS.values():
            client = self.open(browser, None, auth={"token": "bad"}, **options)
            refused = await client.report("connect_error")
            self.assertEqual((refused["data"]["code"], refused["active"]), ("auth.token_invalid", False))
        await self.start_service(WS_ALLOWED_ORIGINS="https://example.org")
        for options in TRANSPORTS.values():
            foreign: Any = self.open(browser, "alice", reconnection=False, **options)
            self.assertIs((await foreign.report("connect_error"))["data"], None)
