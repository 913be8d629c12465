"""`LiveCase`: a test with real services and real clients, all of which end with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from .children import DEADLINE
from .drivers import AutobahnDriver, ChromiumDriver, Client, Driver, NodeDriver, PythonDriver
from .page import Page
from .proxy import Proxy
from .service import Service, mint

#: The ways in which socket.io-client carries its packets.
TRANSPORTS = {
    "websocket": {"transports": ["websocket"]},
    "polling": {"transports": ["polling"]},
    "upgrade": {"transports": ["polling", "websocket"]},
}


class LiveCase(TestCase):
    """Starts services, drivers, proxies and clients; ends them and looks at what they leave."""

    timeout = 120

    def setUp(self) -> None:
        self._directory = Path(self.mktemp())
        self._directory.mkdir(parents=True)
        self._started = 0
        self._tokens: list[str] = []
        self._markers = 0
        self.service: Service
        self.clients: list[Client] = []

    def directory(self) -> Path:
        """A new path for a directory."""
        self._started += 1
        return (self._directory / str(self._started)).absolute()

    async def start_service(self, *options: str, **environ: str | None) -> Service:
        """Start a service with settings; the last one started is `self.service`."""
        self.service = service = self.prepare_service(**environ)
        await service.start(*options)
        return service

    def prepare_service(self, **environ: str | None) -> Service:
        """A service that is not started yet, and will be stopped, and its log looked at."""
        service = Service(self.directory(), environ)
        self.addCleanup(self._end_service, service)
        return service

    async def _end_service(self, service: Service) -> None:
        await service.stop()
        faults = service.faults(self._tokens)
        if faults:
            self.fail("lines that must not be in the log:\n" + "\n".join(faults[:40]))

    async def start_driver(self, driver: Driver) -> Driver:
        """Start a driver."""
        await driver.start(self.directory())
        self.addCleanup(self._end_driver, driver)
        return driver

    async def _end_driver(self, driver: Driver) -> None:
        await driver.stop()
        self.assertEqual(driver.faults, [], "faults of the driver")

    async def start_node(self) -> Driver:
        """Start a driver of socket.io-client in Node."""
        return await self.start_driver(NodeDriver())

    async def start_python(self) -> Driver:
        """Start a driver of python-socketio."""
        return await self.start_driver(PythonDriver())

    async def start_autobahn(self) -> Driver:
        """Start a driver of autobahn-python."""
        return await self.start_driver(AutobahnDriver())

    def direct(
        self, driver: Driver, user: str, client: str, url: str | None = None, **options: Any
    ) -> Client:
        """A new client of /ws that begins to connect: ``wamp`` or ``plain``."""
        made = driver.open(
            f"{(url or self.service.url).replace('http', 'ws', 1)}/ws",
            f"{user}-{options.get('serializer', '')}",
            client=client,
            token=self.token(user),
            **options,
        )
        self.clients.append(made)
        return made

    async def start_chromium(self, page: Page, path: str = "/") -> Driver:
        """Start a driver of Chromium: socket.io-client under ``/``, the others under ``/wamp``."""
        return await self.start_driver(ChromiumDriver(page.origin + path))

    def start_page(self) -> Page:
        """Serve the page of Chromium's clients; its origin has to be allowed by the service."""
        page = Page()
        self.addCleanup(page.stop)
        return page

    def start_proxy(self) -> Proxy:
        """A proxy before the service."""
        proxy = Proxy(self.service.ports["PORT"])
        self.addCleanup(proxy.stop)
        return proxy

    def token(self, user: str, **more: Any) -> str:
        """A token of a user; see `mint`. No log may have it."""
        made = mint(user, **more)
        self._tokens.append(made.rpartition(".")[2])
        return made

    def open(
        self,
        driver: Driver,
        user: str | None,
        *,
        url: str | None = None,
        auth: dict[str, Any] | None = None,
        **options: Any,
    ) -> Client:
        """A new client that begins to connect, as a user or as nobody."""
        given = dict(auth or {})
        if user is not None:
            given = {"token": self.token(user), **given}
        client = driver.open(url or self.service.url, user or "nobody", auth=given, **options)
        self.clients.append(client)
        return client

    async def connect(self, driver: Driver, user: str, **more: Any) -> Client:
        """A new client of a user, connected."""
        client = self.open(driver, user, **more)
        await client.connected()
        return client

    async def barrier(self, *clients: Client, seconds: float = DEADLINE) -> None:
        """Wait until these clients (else all) have received all that was published before."""
        self._markers += 1
        marker = {"marker": f"{self.id()} {self._markers}"}
        answer = await self.service.publish("system:announcement", marker)
        self.assertEqual(answer.status, 200, answer.body)
        for client in clients or self.clients:
            await client.event("system:announcement", **marker)

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        """Ask until something holds, for what the service tells nobody by itself."""
        ends = reactor.seconds() + DEADLINE
        while not await holds():
            if reactor.seconds() > ends:
                self.fail(f"not within {DEADLINE:g} s: {what}")
            await deferLater(reactor, 0.05)

    def refused(self, answer: dict[str, Any], code: str) -> dict[str, Any]:
        """Check that an acknowledgement is the Refusal with this code; the Refusal."""
        self.assertEqual((answer["ok"], answer.get("error", {}).get("code")), (False, code), answer)
        error = answer["error"]
        assert isinstance(error, dict)
        self.assertIsInstance(error["message"], str)
        return error

    def accepted(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Check that an acknowledgement says ok; the rest of it."""
        self.assertIs(answer["ok"], True, answer)
        return {name: value for name, value in answer.items() if name != "ok"}
