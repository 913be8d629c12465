"""The console in a real Chromium, through all that it offers; and what it asks of another node."""

from __future__ import annotations

from typing import Any

from ..redis_servers import RedisServer
from .case import LiveCase
from .pages import Pages, Tab
from .service import API_KEY

VIEWS = ("overview", "rooms", "users", "connections", "publish")


class ConsoleTests(LiveCase):
    async def _open(self, **environ: str) -> Tab:
        await self.start_service(**environ)
        pages = Pages()
        await self.start_driver(pages)
        return await pages.tab(f"{self.service.base('API_PORT')}/console/")

    async def _unlock(self, page: Tab) -> None:
        await page.do("fill", "#login input", text=API_KEY)
        await page.do("click", "#login button")
        await page.do("see", "#nodes td", text="healthy")

    async def test_every_action(self) -> None:
        """Who has the key sees figures, rooms, users and connections, reads along, publishes, and ends a
        user's connections; who has not sees nothing."""
        page = await self._open()
        node = await self.start_node()
        alice, bob = [await self.connect(node, user) for user in ("alice", "bob")]
        for client in (alice, bob):
            self.accepted(await client.call("room:join", {"roomId": "event:42"}))
        await page.do("fill", "#login input", text="not the key")
        await page.do("click", "#login button")
        await page.do("see", "#fault", text="no API key")
        await self._unlock(page)
        await page.do("see", "[data-tile=connections]", text="2")
        await page.do("see", "figcaption .legend")
        await self._look_at_room(page, alice)
        await self._look_at_connection(page, alice)
        await self._publish(page, alice, bob)
        await self._kick(page, alice)
        self.assertEqual((await page.do("storage"))[:3], [0, 0, ""])
        await page.do("click", "#lock")
        await page.do("see", "#login")
        self.assertEqual(await page.do("value", "#login input"), "")
        await page.do("gone", "#view", text="")

    async def _look_at_room(self, page: Tab, alice: Any) -> None:
        said = "<b>hello</b> <img src=x onerror=fail()>"
        self.accepted(await alice.call("room:message", {"roomId": "event:42", "text": said}))
        await page.do("click", "nav a[href='#rooms']")
        await page.do("click", "td a[href='#room/event%3A42']")
        for user in ("alice", "bob"):
            await page.do("see", "td", text=user)
        await page.do("see", "td", text=said)

    async def _look_at_connection(self, page: Tab, alice: Any) -> None:
        await page.do("click", "nav a[href='#connections']")
        await page.do("see", "tbody tr:nth-child(2)")
        await page.do("fill", "[name=user]", text="alice")
        await page.do("click", ".filters button")
        await page.do("gone", "tbody tr", text="bob")
        await page.do("click", "tbody tr a")
        await page.do("see", ".facts", text="event:42")
        self.accepted(await alice.call("room:message", {"roomId": "event:42", "text": "seen live"}))
        await page.do("see", "#live .in", text="seen live")
        await page.do("see", "#live .out", text="seen live")
        self.assertEqual(await page.do("axe"), [])

    async def _publish(self, page: Tab, alice: Any, bob: Any) -> None:
        await page.do("click", "nav a[href='#publish']")
        await page.do("fill", "[name=channel]", text="booking:confirmed")
        await page.do("fill", "[name=data]", text='{"userId": "bob", "bookingId": 1}')
        await page.do("click", "#publish button")
        await page.do("see", "dialog[open]", text="Publish to booking:confirmed?")
        self.assertEqual(await page.do("axe"), [])
        await page.do("click", "dialog button[value=no]")
        await page.do("fill", "[name=data]", text='{"userId": "bob", "bookingId": 2}')
        await page.do("click", "#publish button")
        await page.do("click", "#confirm-yes")
        await page.do("see", "#sent li", text="user bob")
        self.assertEqual((await bob.event("booking:confirmed"))["bookingId"], 2)
        await self.barrier(alice, bob)
        self.assertEqual(alice.events("booking:confirmed"), [])

    async def _kick(self, page: Tab, alice: Any) -> None:
        await page.do("click", "nav a[href='#users']")
        await page.do("click", "td a[href='#user/alice']")
        await page.do("see", "td", text="Socket.IO")
        await page.do("click", "button.danger")
        await page.do("press", key="Escape")
        await page.do("gone", "dialog", text="")
        await page.do("click", ".title button:not(.danger)")  # what was asked before is answered before
        await page.do("see", ".facts", text="online")
        await self.barrier(alice)
        self.assertEqual(await page.do("texts", "#done"), [""])
        await page.do("click", "button.danger")
        await page.do("click", "#confirm-yes")
        await page.do("see", "#done", text="1 connection was ended: alice")
        await alice.event("system:error", code="connection.kicked")
        await alice.report("disconnect")
        await page.do("see", ".facts", text="offline")

    async def test_looks(self) -> None:
        """Each view fits a phone; axe-core finds no serious fault in it, in the light and in the dark."""
        page = await self._open()
        node = await self.start_node()
        alice = await self.connect(node, "alice")
        self.accepted(await alice.call("room:join", {"roomId": "event:42-" + "x" * 100}))
        self.assertEqual(await page.do("axe"), [])
        await self._unlock(page)
        for width, scheme in ((390, "light"), (1280, "dark")):
            await page.do("look", width=width, height=844, scheme=scheme)
            for view in VIEWS:
                await page.do("click", f"nav a[href='#{view}']")
                await page.do("see", "#publish" if view == "publish" else "tbody tr")
                self.assertLessEqual(await page.do("overflow"), 0, (view, width))
                self.assertEqual(await page.do("axe"), [], (view, scheme))
        await page.do("press", key="Tab")
        self.assertTrue(await page.do("focused"))


class NodesTests(LiveCase):
    async def test_other_node(self) -> None:
        """Over Redis one node tells the figures, users and connections of another, and its events."""
        redis = RedisServer(self.directory())
        await redis.start()
        self.addCleanup(redis.stop)
        first, second = [await self.start_service(REDIS_URL=redis.url) for _ in range(2)]
        alice = await self.connect(await self.start_node(), "alice")  # of the second, the last one started
        told = (await first.request("GET", "/v1/nodes")).body
        users = {node["node"]: node["users"] for node in told["nodes"]}
        self.assertEqual((len(users), users[told["node"]], sum(users.values())), (2, 0, 1))
        (other,) = set(users) - {told["node"]}
        for path in ("connections", "users"):
            self.assertEqual((await first.request("GET", f"/v1/{path}")).body[path], [])
            (one,) = (await first.request("GET", f"/v1/{path}?node={other}")).body[path]
            self.assertEqual(one["userId"], "alice")
        (one,) = (await first.request("GET", f"/v1/connections?node={other}")).body["connections"]
        pages = Pages()
        await self.start_driver(pages)
        console = f"{first.base('API_PORT')}/console/"
        page = await pages.tab(f"{console}#connection/{other}/{one['connectionId']}")
        await page.do("fill", "#login input", text=API_KEY)
        await page.do("click", "#login button")
        await page.do("see", ".facts", text="alice")
        self.accepted(await alice.call("room:join", {"roomId": "event:42"}))
        await page.do("see", "#live .in", text="room:join")
        await page.do("see", "#live .out", text="room:joined")
        await page.do("click", "nav a[href='#overview']")
        await page.do("see", "#nodes tbody tr:nth-child(2)", text="healthy")
        self.assertIs(self.service, second)
        alice.disconnect()
        await alice.report("disconnect")
