"""`LinkCase`: tests with links to real Redis servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from realtime.broker.redis_link import Link, SubscriberLink
from realtime.broker.redis_locate import Connector, FixedLocator, Locator, Place

from ..redis_servers import DEADLINE, RedisServer, start_redis, until


class Counts:
    """Link counters that tests look at."""

    def __init__(self) -> None:
        self.sent = 0
        self.errors: list[str] = []
        self.ups = 0
        self.downs = 0

    def commands(self, link: str, count: int) -> None:
        self.sent += count

    def error(self, link: str, kind: str) -> None:
        self.errors.append(kind)

    def connected(self, link: str) -> None:
        self.ups += 1

    def disconnected(self, link: str) -> None:
        self.downs += 1


class LinkCase(TestCase):
    """Starts servers and links; all end with the test."""

    timeout = 60

    def setUp(self) -> None:
        self.counts = Counts()
        self.messages: list[tuple[bytes, ...]] = []

    async def start_server(self, *options: str | int, **more: Any) -> RedisServer:
        """Start a server; `self.server`."""
        self.server = await start_redis(self, *options, **more)
        return self.server

    def locator(self) -> Locator:
        """Leads to `self.server`."""
        return FixedLocator(Place("127.0.0.1", self.server.port))

    def prepare_link(
        self,
        kind: Callable[..., Link] = Link,
        locator: Locator | None = None,
        connector: Connector | None = None,
        **more: Any,
    ) -> Any:
        """A link that is started, and need not be up yet."""
        given = {"name": "publish", "counters": self.counts, **more}
        link = kind(
            connector or Connector(reactor, password=self.server.password),
            locator or self.locator(),
            **given,
        )
        self.addCleanup(link.stop)
        link.start()
        return link

    async def link(self, **more: Any) -> Link:
        """A link for commands, up."""
        link: Link = self.prepare_link(**more)
        await self.reach(lambda: link.up, "the link to be up")
        return link

    async def subscriber(self, **more: Any) -> SubscriberLink:
        """A link for pub/sub, up; `self.messages` holds what it hears."""
        link: SubscriberLink = self.prepare_link(
            SubscriberLink,
            **{"on_message": self.hear, "on_pmessage": self.hear, "name": "subscribe", **more},
        )
        await self.reach(lambda: link.up, "the link to be up")
        return link

    def hear(self, *message: bytes) -> None:
        """What a subscriber calls."""
        self.messages.append(message)

    async def heard(self, count: int) -> list[tuple[bytes, ...]]:
        """The messages, once there are so many."""
        await self.reach(lambda: len(self.messages) >= count, f"{count} messages")
        return self.messages

    async def reach(self, holds: Callable[[], Any], what: str, seconds: float = DEADLINE) -> None:
        """Wait until something of this process holds."""

        async def ask() -> Any:
            return holds()

        await until(ask, what, seconds)
