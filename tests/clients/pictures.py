"""Takes the pictures of docs/pictures anew: ``make pictures``. To be looked at before they are kept."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater

from ..redis_servers import start_redis
from ..test_docs import ROOT
from .case import LiveCase
from .pages import Pages, Tab
from .service import API_KEY

PICTURES = ROOT / "docs/pictures"
USERS = (
    *("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"),
    *("mallory", "niaj", "olivia", "peggy", "rupert", "sybil", "trent", "victor", "walter", "wendy"),
)
SAID = (
    *("Are the seats still free?", "B7 and B8, next to the aisle.", "I take both."),
    *("Doors open at 19:00.", "See you at seven."),
)
#: Seconds of chat before the charts have something to show.
CHAT = 42.0


class Pictures(LiveCase):
    timeout = 180

    async def picture(
        self, page: Tab, name: str, scheme: str, width: int = 1360, height: int = 880
    ) -> None:
        await page.do("look", width=width, height=height, scheme=scheme)
        await deferLater(reactor, 0.6)  # until what moves has come to rest
        await page.do("picture", path=str(PICTURES / f"{name}.png"))

    async def test_console(self) -> None:
        dice = random.Random(7)
        redis = await start_redis(self)
        url = f"redis://127.0.0.1:{redis.port}"
        clients: list[Any] = []
        for users in (USERS[:13], USERS[13:]):
            service = await self.start_service(REDIS_URL=url, RATE_LIMIT_MAX_MESSAGES="10000")
            node = await self.start_node()
            clients += [await self.connect(node, user) for user in users]
        for number, client in enumerate(clients):
            for room in ("event:42", "lobby", f"event:{number % 7}")[number % 2 :]:
                self.accepted(await client.call("room:join", {"roomId": room}))
            status = dice.choice(("online", "online", "away", "busy"))
            self.accepted(await client.call("user:presence", {"status": status}))
        pages = Pages()
        await self.start_driver(pages)
        page = await pages.tab(f"{service.base('API_PORT')}/console/")
        await page.do("look", width=1360, height=880, scheme="light")
        await page.do("fill", "#login input", text=API_KEY)
        await page.do("click", "#login button")
        await page.do("see", "#nodes td", text="healthy")
        chatting = ensureDeferred(self.chat(clients, dice))
        await deferLater(reactor, CHAT)
        await self.picture(page, "console-overview", "light")
        await page.do("click", "nav a[href='#rooms']")
        await page.do("click", "td a[href='#room/event%3A42']")
        await page.do("see", "td", text="Are the seats")
        await self.picture(page, "console-room", "light")
        await page.do("click", "nav a[href='#connections']")
        await page.do("fill", "[name=user]", text="alice")
        await page.do("click", ".filters button")
        await page.do("gone", "tbody tr", text="bob")
        await page.do("click", "tbody tr a")
        await page.do("see", "#live .out", text="room:message")
        await deferLater(reactor, 3)
        await self.picture(page, "console-connection", "dark")
        await page.do("click", "nav a[href='#overview']")
        await page.do("see", "#nodes td", text="healthy")
        await self.picture(page, "console-phone", "dark", 390, 844)
        self.done = True
        await chatting

    async def chat(self, clients: list[Any], dice: random.Random) -> None:
        self.done = False
        while not self.done:
            # who is in event:42
            client = dice.choice(clients[::2])
            await client.call("room:message", {"roomId": "event:42", "text": dice.choice(SAID)})
            await deferLater(reactor, dice.uniform(0.02, 0.12))

    async def test_try_out(self) -> None:
        await self.start_service()
        await self.until(self.greeted, "the greeting")
        (address,) = (line for line in self.service.greeting if "/try/#key=" in line)
        pages = Pages()
        await self.start_driver(pages)
        page = await pages.tab(address)
        await page.do("look", width=1360, height=900, scheme="light")
        for user in ("alice", "bob"):
            await page.do("see", f"#{user}[data-state=connected]")
        await page.do("select", "#bob .protocol", value="plain")
        await page.do("see", "#alice .members", text="bob, online")
        await self.say(page, "alice", SAID[0])
        await page.do("see", "#bob .chat .other", text=SAID[0])
        await self.say(page, "bob", SAID[1])
        await self.publish(page, "0")
        await page.do("see", "#deliveries .got", text="alice: got it after")
        await page.do("type", "#bob .say input", text="Shall I")
        await page.do("see", "#alice .typing", text="bob types")
        await self.picture(page, "try-out", "light", height=900)
        await page.do("click", "#bob .network")
        await page.do("see", "#bob .state", text="network cut")
        for text in ("Bob, are you there?", SAID[2]):
            await self.say(page, "alice", text)
            await page.do("see", "#alice .chat", text=text)
        await self.publish(page, "1")
        await page.do("click", "#bob .network")
        await page.do("see", "#bob .told.good")
        await page.do("see", "#deliveries .got", text="bob: recovered after")
        await self.picture(page, "try-out-cut", "dark", height=900)

    async def greeted(self) -> bool:
        return any("/try/#key=" in line for line in self.service.greeting)

    async def say(self, page: Tab, user: str, text: str) -> None:
        await page.do("fill", f"#{user} .say input", text=text)
        await page.do("click", f"#{user} .say button")

    async def publish(self, page: Tab, preset: str) -> None:
        await page.do("select", "#publish select", value=preset)
        await page.do("click", "#publish button")
