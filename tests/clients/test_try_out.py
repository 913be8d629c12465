"""The try-out page in a real Chromium: everything that it offers, in each protocol."""

from __future__ import annotations

from .case import LiveCase
from .pages import Pages, Tab

PROTOCOLS = ("socketio-websocket", "socketio-polling", "wamp", "plain")


class TryOutTests(LiveCase):
    async def _open(self) -> tuple[Pages, Tab]:
        """A browser, and the page by the address that the server prints."""
        await self.start_service()
        found: list[str] = []

        async def greeted() -> bool:
            found[:] = [line for line in self.service.greeting if "/try/#key=" in line]
            return bool(found)

        await self.until(greeted, "the greeting")
        pages = Pages()
        await self.start_driver(pages)
        page = await pages.tab(found[0])
        await self._ready(page, "alice", "bob")
        return pages, page

    async def _ready(self, page: Tab, *users: str) -> None:
        for user in users:
            await page.do("see", f"#{user}[data-state=connected]")
            for other in ("alice", "bob"):
                await page.do("see", f"#{user} .members", text=f"{other}, ")

    async def _say(self, page: Tab, user: str, text: str) -> None:
        await page.do("fill", f"#{user} .say input", text=text)
        await page.do("click", f"#{user} .say button")

    async def _publish(self, page: Tab, preset: int) -> None:
        await page.do("select", "#publish select", value=str(preset))
        await page.do("click", "#publish button")

    async def test_every_action(self) -> None:
        """Alice and Bob connect, chat, type, show themselves, publish, are cut off and recover: in each
        protocol."""
        _, page = await self._open()
        for protocol, others in zip(PROTOCOLS, reversed(PROTOCOLS), strict=True):
            await page.do("select", "#bob .protocol", value=protocol)
            await page.do("select", "#alice .protocol", value=others)
            await self._ready(page, "alice", "bob")
            await self._talk(page, protocol)
            await self._acknowledge()
            await self._cut(page, protocol)
        self.assertEqual(await page.do("axe"), [])
        for text in await page.do("texts", ".wire code"):
            self.assertNotRegex(text, r"eyJ|\"pid\":\"(?!\(secret)|\"session\":\"(?!\(secret)")
        await page.do("click", "#bob .connect")
        await page.do("see", "#bob .state", text="not connected (you left)")
        await page.do("gone", "#alice .members", text="bob, ")
        await page.do("click", "#bob .connect")
        await self._ready(page, "alice", "bob")

    async def _talk(self, page: Tab, protocol: str) -> None:
        await self._say(page, "alice", f"from alice, {protocol}")
        await page.do("see", "#bob .chat .other", text=f"from alice, {protocol}")
        await page.do("type", "#bob .say input", text="from")
        await page.do("see", "#alice .typing", text="bob types")
        await self._say(page, "bob", f"from bob, {protocol}")
        await page.do("see", "#alice .chat .other", text=f"from bob, {protocol}")
        await page.do("gone", "#alice .typing", text="bob types")
        for status, shown in (
            ("busy", "bob, busy"),
            ("invisible", "bob, offline"),
            ("online", "bob, online"),
        ):
            await page.do("select", "#bob .presence", value=status)
            await page.do("see", "#alice .members", text=shown)
        await self._publish(page, 1)
        await page.do("see", "#deliveries > li:first-child .got", text="bob: got it after")
        await page.do("see", "#deliveries > li:first-child .none", text="alice: not for them")
        await page.do("see", "#bob .events", text="booking:confirmed")
        await self._publish(page, 4)
        for user in ("alice", "bob"):
            await page.do("see", "#deliveries > li:first-child .got", text=f"{user}: got it after")
        await page.do("click", "#bob .room button")
        await page.do("gone", "#alice .members", text="bob, ")
        await page.do("click", "#bob .room button")
        await self._ready(page, "alice", "bob")

    async def _acknowledge(self) -> None:
        """Both say that they got a publication with a receipt."""
        asked = {"channel": "system:announcement", "data": {}, "receipt": True}
        published = (await self.service.request("POST", "/v1/publish", asked)).body["id"]

        async def acknowledged() -> bool:
            told = await self.service.request("GET", f"/v1/receipts/{published}")
            return bool(told.body["counts"]["acknowledged"] == 2)

        await self.until(acknowledged, "both to acknowledge")

    async def _cut(self, page: Tab, protocol: str) -> None:
        await page.do("click", "#bob .network")
        await page.do("see", "#bob .state", text="network cut")
        for number in range(3):
            await self._say(page, "alice", f"missed {number}, {protocol}")
            await page.do("see", "#alice .chat", text=f"missed {number}, {protocol}")
        await self._publish(page, 1)
        await page.do("see", "#deliveries > li:first-child .due", text="bob: not yet")
        await page.do("click", "#bob .network")
        await page.do("see", "#bob .told.good strong", text="4")
        await page.do("see", "#deliveries > li:first-child .got", text="bob: recovered after")
        shown = [text for text in await page.do("texts", "#bob .chat .text") if protocol in text]
        missed = [f"missed {number}, {protocol}" for number in range(3)]
        self.assertEqual(shown, [f"from alice, {protocol}", f"from bob, {protocol}", *missed])

    async def test_looks(self) -> None:
        """At phone width nothing runs out of the page; in the dark axe-core finds no serious fault either;
        the keyboard alone is enough; nothing is kept; who has not the key is told so."""
        pages, page = await self._open()
        await self._say(page, "alice", "a-very-long-word-" * 40)
        await page.do("see", "#bob .chat .other")
        for width, scheme in ((390, "dark"), (390, "light"), (1280, "dark")):
            await page.do("look", width=width, height=844, scheme=scheme)
            self.assertLessEqual(await page.do("overflow"), 0)
            self.assertEqual(await page.do("axe"), [], (width, scheme))
        reached: list[str] = []
        while "text" not in reached:
            await page.do("press", key="Tab")
            reached.append(await page.do("focused"))
            self.assertLess(len(reached), 30, reached)
        for key in ("h", "i", "Enter"):
            await page.do("press", key=key)
        await page.do("see", ".chat .other .text", text="hi")
        self.assertEqual((await page.do("storage"))[:3], [0, 0, ""])
        for fragment, told in (("", "#key="), ("#key=wrong", "not the key")):
            stranger = await pages.tab(f"{self.service.url}/try/{fragment}")
            await stranger.do("see", "#fault", text=told)
            self.assertEqual(await stranger.do("axe"), [])
