"""Drivers: child processes full of real clients; and `Client`, the test's hand on one of them."""

from __future__ import annotations

import json
import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from .children import DEADLINE, Child, Late, Missing, program, within

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"

Report = dict[str, Any]


def node_modules() -> Path:
    """Where the official client is installed.

    :raises Missing: it is not.
    """
    for package in ("socket.io-client", "playwright-core", "autobahn", "autobahn-browser"):
        if not (MODULES / package).is_dir():
            raise Missing("node_modules", MODULES / package)
    return MODULES


def chromium() -> str:
    """The path of Chromium.

    :raises Missing: it is not installed.
    """
    return program("chromium")


def _pack(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: _pack(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item) for item in value]
    return value


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("$bytes"), str):
            return b64decode(value["$bytes"])
        return {name: _unpack(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unpack(item) for item in value]
    return value


class Client:
    """One socket of a driver: what it is told to do, and what it reports.

    :ivar reports: all reports so far, in order.
    :ivar user: for the test to note who it is.
    """

    def __init__(self, driver: Driver, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self.user = ""
        self.reports: list[Report] = []
        self._driver = driver
        self._taken: set[int] = set()
        self._calls = 0
        self._waiting: list[tuple[Callable[[Report], bool], Deferred[Report]]] = []

    def __repr__(self) -> str:
        return f"<Client {self.name}>"

    def reported(self, report: Report) -> None:
        """Take a report of the driver."""
        self.reports.append(report)
        for at, (match, waiting) in enumerate(self._waiting):
            if match(report):
                del self._waiting[at]
                self._taken.add(len(self.reports) - 1)
                waiting.callback(report)
                return

    async def take(self, match: Callable[[Report], bool], what: str, seconds: float = DEADLINE) -> Report:
        """The oldest report that matches and was not taken yet; waits for it.

        :raises Late: there was none within `seconds`.
        """
        for at, report in enumerate(self.reports):
            if at not in self._taken and match(report):
                self._taken.add(at)
                return report
        waiting: Deferred[Report] = Deferred()
        entry = (match, waiting)
        self._waiting.append(entry)
        try:
            found = await within(seconds, waiting, lambda: f"{self} {what}; last: {self._last()}")
        except Late:
            self._waiting.remove(entry)
            raise
        assert isinstance(found, dict)
        return found

    def forget(self) -> None:
        """Forget all reports so far."""
        self.reports.clear()
        self._taken.clear()

    async def report(self, kind: str, **fields: Any) -> Report:
        """The next report of a kind with these fields."""
        wanted = {"report": kind, **fields}
        return await self.take(lambda report: wanted.items() <= report.items(), f"to report {wanted}")

    async def connected(self) -> dict[str, Any]:
        """Wait for the next ``connect`` and the ``system:connected`` that goes with it; its payload.

        It carries the fields of the report (``sid``, ``recovered``, ``transport``) under ``client``.
        """
        connect = await self.report("connect")
        return {**await self.event("system:connected"), "client": connect}

    async def event(self, event: str, **fields: Any) -> dict[str, Any]:
        """The payload of the next event of a name whose payload has these fields."""
        found = await self.take(
            lambda report: (
                report["report"] == "event"
                and report["event"] == event
                and fields.items() <= report["args"][0].items()
            ),
            f"to receive {event} {fields or ''}",
        )
        payload = _unpack(found["args"][0])
        assert isinstance(payload, dict)
        return payload

    def events(self, event: str) -> list[dict[str, Any]]:
        """The payloads of all events of a name so far, taken or not."""
        return [args[0] for args in self.arguments(event)]

    def arguments(self, event: str) -> list[list[Any]]:
        """The arguments of all events of a name so far: the payload, and the offset if it has one."""
        return [
            _unpack(report["args"])
            for report in self.reports
            if report["report"] == "event" and report["event"] == event
        ]

    async def call(self, event: str, *args: Any) -> dict[str, Any]:
        """Emit an event and await its acknowledgement."""
        self._calls += 1
        number = self._calls
        self._tell("emit", event=event, args=_pack(args), ack=number)
        answer = await self.take(
            lambda report: report["report"] == "ack" and report["ack"] == number,
            f"to have {event} acknowledged",
        )
        acknowledged = _unpack(answer["args"])
        if len(acknowledged) != 1 or not isinstance(acknowledged[0], dict):
            raise AssertionError(f"{event} was acknowledged with {acknowledged!r}")
        return acknowledged[0]

    def emit(self, event: str, *args: Any) -> None:
        """Emit an event that asks for no acknowledgement."""
        self._tell("emit", event=event, args=_pack(args))

    async def state(self) -> dict[str, Any]:
        """What the client says of itself now: see ``query`` in ``sockets.mjs``."""
        self._calls += 1
        self._tell("query", call=self._calls)
        answer = await self.report("answer", call=self._calls)
        value = answer["value"]
        assert isinstance(value, dict)
        return value

    def flow(self, rooms: list[str], count: int, every: int, size: int) -> None:
        """Send `count` numbered room messages, `size` of them each `every` milliseconds."""
        self._tell("flow", rooms=rooms, count=count, every=every, size=size)

    async def tell(self, do: str, **more: Any) -> dict[str, Any]:
        """Give a command that only some clients have, and await what it is answered."""
        self._calls += 1
        number = self._calls
        self._tell(do, ack=number, **more)
        answer = await self.report("ack", ack=number)
        told = answer["args"][0]
        assert isinstance(told, dict)
        return told

    def command(self, do: str, **more: Any) -> None:
        """Give a command that only some clients have, and that is not answered."""
        self._tell(do, **more)

    def cut(self, how: str = "polite") -> None:
        """End the transport, as the network does; the client comes back by itself."""
        self._tell("cut", how=how)

    def connect(self) -> None:
        """Connect again, after an end that was final."""
        self._tell("connect")

    def disconnect(self) -> None:
        """End the session for good."""
        self._tell("disconnect")

    def close(self) -> None:
        """Close the tab (Chromium only)."""
        self._tell("close")

    def present(self, **auth: Any) -> None:
        """What the next connect presents as its auth."""
        self._tell("auth", auth=auth)

    def open(self, options: dict[str, Any]) -> None:
        """Begin to connect."""
        self._tell("open", url=self.url, options=options)

    def _tell(self, do: str, **more: Any) -> None:
        self._driver.tell({"do": do, "id": self.name, **more})

    def _last(self) -> str:
        return json.dumps(self.reports[-6:])[-1500:]


class Driver:
    """A child process that holds clients. `reports` of no client of ours are its own."""

    def __init__(self) -> None:
        self._child = Child(self._line)
        self._clients: dict[str, Client] = {}
        self._own = Client(self, "the driver", "")
        self.faults: list[str] = []
        self._ending = False

    def command(self, directory: Path) -> list[str]:
        """The command line."""
        raise NotImplementedError

    def environ(self, directory: Path) -> dict[str, str]:
        """The environment: what programs need, nothing of the user's."""
        return {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8"}

    async def start(self, directory: Path) -> None:
        """Start the process; `directory` is its own."""
        directory.mkdir()
        self._child.start(self.command(directory), self.environ(directory), directory)

    async def stop(self) -> None:
        """End the process and its clients."""
        self._ending = True
        await self._child.stop(10, None)

    def open(self, url: str, name: str = "", **options: Any) -> Client:
        """A new client that begins to connect at once. `options` are those of ``io()``.

        socket.io-client comes back without the delays that its defaults put between attempts.
        """
        client = Client(self, f"{len(self._clients)}-{name}" if name else str(len(self._clients)), url)
        self._clients[client.name] = client
        quick = {"reconnectionDelay": 20, "reconnectionDelayMax": 100, "randomizationFactor": 0}
        client.open({**quick, **options})
        return client

    def tell(self, command: Report) -> None:
        """Give the process a command."""
        self._child.write(json.dumps(command))

    def _line(self, line: str) -> None:
        try:
            report = json.loads(line)
            kind, client = report["report"], self._clients.get(report.get("id"), self._own)
        except (ValueError, TypeError, KeyError):
            self._unreadable(line)
            return
        if kind == "fault":
            self.faults.append(f"{client}: {report['message']}")
        client.reported(report)

    def _unreadable(self, line: str) -> None:
        # What it was writing when it was ended is cut.
        if not self._ending:
            self.faults.append(line)


class NodeDriver(Driver):
    """The official socket.io-client, autobahn-js and bare WebSockets in Node, by the option `client`.

    :cvar script: what Node runs.
    """

    script = "driver.mjs"

    def command(self, directory: Path) -> list[str]:
        node_modules()
        return [program("node"), str(HERE / self.script)]


class PythonDriver(Driver):
    """python-socketio's asyncio client."""

    def command(self, directory: Path) -> list[str]:
        return [sys.executable, str(HERE / "pydriver.py")]


class AutobahnDriver(Driver):
    """Components of autobahn-python."""

    def command(self, directory: Path) -> list[str]:
        return [sys.executable, str(HERE / "abdriver.py")]


class ChromiumDriver(Driver):
    """The official socket.io-client in pages of a headless Chromium, each client in its own tab.

    :param page: the address of the page; see `tests.clients.page`.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self._page = page

    def command(self, directory: Path) -> list[str]:
        node_modules()
        profile = directory / "profile"
        profile.mkdir()
        return [program("node"), str(HERE / "chromium.mjs"), self._page, str(profile)]

    def environ(self, directory: Path) -> dict[str, str]:
        return {**super().environ(directory), "CHROMIUM": chromium()}

    async def start(self, directory: Path) -> None:
        await super().start(directory)
        await self._own.report("ready")
