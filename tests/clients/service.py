"""`Service`: the real service in a process of its own, as an operator starts it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import treq
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.client import HTTPConnectionPool

from .children import DEADLINE, Child, Missing, within

ROOT = Path(__file__).parents[2]
LISTENERS = ("PORT", "API_PORT", "HEALTH_CHECK_PORT", "METRICS_PORT")
JWT_SECRET = "the tests' own secret, long enough for HMAC"
#: The first and the last line of what a development server greets people with (realtime/banner.py).
GREETING = "realtime serves "
LAST = "socket.onAny("
API_KEY = "the-tests-own-api-key-0123456789abcdef"
#: What messages of the fault tests carry, and no log may have (also in recorder.mjs).
PAYLOAD = "not-for-any-log"


class Answer(NamedTuple):
    """An HTTP answer: its status, and its body, decoded where it is JSON."""

    status: int
    body: Any


def mint(
    user: str,
    *,
    roles: Iterable[str] = (),
    rooms: Iterable[str] = (),
    ttl: float = 3600,
    secret: str = JWT_SECRET,
    **claims: Any,
) -> str:
    """A token as the auth service makes them.

    :param rooms: the rooms that it opens, and that are joined for the user.
    :param ttl: seconds until it expires.
    """
    now = time.time()
    given = {"sub": user, "roles": list(roles), "rooms": list(rooms), "iat": int(now), "exp": now + ttl}
    return jwt.encode({**given, **claims}, secret, algorithm="HS256")


class Service:
    """One process of ``twistd -n realtime``.

    :param directory: a new directory of its own: where it runs and keeps its state file.
    :param environ: settings beside the tests' own secret, key and free ports; None unsets one.
    :ivar log: the lines that it wrote.
    :ivar ports: the port of each listener, by its setting, once it is up; and its address.
    :ivar greeting: the lines for people that it wrote between those of the log.
    :ivar fails: whether it is meant to end with an error.
    :ivar forgiven: texts; lines of the log that have one of them may be errors.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str | None] | None = None) -> None:
        self.log: list[str] = []
        self.ports: dict[str, int] = {}
        self.addresses: dict[str, str] = {}
        self.greeting: list[str] = []
        self.forgiven: list[str] = []
        self.fails = False
        self._directory = directory
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "JWT_SECRET": JWT_SECRET,
            "API_KEY": API_KEY,
            "REALTIME_STATE": str(directory / "state"),
            "RATE_LIMIT_MAX_MESSAGES": "100000",
            "DRAIN_SETTLE": "0",
            "DRAIN_TIMEOUT": "1000",
            **dict.fromkeys(LISTENERS, "0"),
            **(environ or {}),
        }
        self.environ = {name: value for name, value in own.items() if value is not None}
        self._listening: Deferred[None] | None = Deferred()
        self._child = Child(self._line)
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 4

    async def start(self, *options: str) -> Service:
        """Start it with options of ``realtime``; returns once all listeners are bound."""
        self.launch(*options)
        await self.up()
        return self

    def launch(self, *options: str) -> None:
        """Start it and do not wait."""
        twistd = Path(sys.executable).with_name("twistd")
        if not twistd.exists():
            raise Missing("twistd", twistd)
        self._directory.mkdir()
        command = [sys.executable, str(twistd), "-n", "--pidfile=", "realtime", *options]
        self._child.start(command, self.environ, self._directory)
        self._child.ended().addCallback(lambda _: self._settle())

    async def up(self) -> None:
        """Wait until it listens, and answers."""
        if self._listening is not None:
            await within(DEADLINE, self._listening, lambda: f"listening; log:\n{self.tail()}")
        if len(self.ports) < len(LISTENERS):
            raise AssertionError(f"it ended with status {self.status}; log:\n{self.tail()}")
        # It binds its ports before its reactor runs, and only then minds SIGTERM.
        await self.request("GET", "/health/live", listener="HEALTH_CHECK_PORT")

    async def exited(self) -> int:
        """Wait for its own end; its exit status (negative for a signal)."""
        await within(DEADLINE, self._child.ended(), lambda: f"its end; log:\n{self.tail()}")
        assert self.status is not None
        return self.status

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._child.status

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self.base("PORT")

    def base(self, listener: str) -> str:
        """Where a listener is."""
        return f"http://{self.addresses[listener]}:{self.ports[listener]}"

    def terminate(self) -> None:
        """Ask it to end, by SIGTERM."""
        self.signal("TERM")

    @property
    def pid(self) -> int:
        """Its process id; only while it runs."""
        return self._child.pid

    def signal(self, name: str) -> None:
        """Send it a signal: ``STOP``, ``CONT``…"""
        os.kill(self.pid, signal.Signals[f"SIG{name}"])

    async def kill(self) -> None:
        """End it by SIGKILL, as a crash or the kernel does."""
        self.fails = True
        self.signal("KILL")
        await self.exited()
        await self._pool.closeCachedConnections()

    async def stop(self) -> None:
        """End it by SIGTERM.

        :raises AssertionError: it took too long or failed.
        """
        await self._pool.closeCachedConnections()
        in_time = await self._child.stop(20, "TERM")
        if not in_time:
            raise AssertionError(f"no end within 20 s of SIGTERM; log:\n{self.tail()}")
        if self.status not in (0, None) and not self.fails:
            raise AssertionError(f"it ended with status {self.status}; log:\n{self.tail()}")

    def faults(self, secrets: Iterable[str]) -> list[str]:
        """The lines of the log that must not be: errors, tracebacks, what is no JSON, secrets, payloads."""
        secret = [*secrets, PAYLOAD, self.environ.get("JWT_SECRET"), self.environ.get("API_KEY")]
        return [
            line
            for line in self.log
            if not any(text in line for text in self.forgiven)
            and (self._is_fault(line) or any(text in line for text in secret if text))
        ]

    @staticmethod
    def _is_fault(line: str) -> bool:
        if "Traceback" in line or "Unhandled" in line:
            return True
        try:
            entry = json.loads(line)
        except ValueError:
            return True
        return not isinstance(entry, dict) or entry.get("level") in ("error", "critical")

    def entries(self, message: str) -> list[dict[str, Any]]:
        """The entries of the log with a message, so far."""
        found = []
        for line in self.log:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("message") == message:
                found.append(entry)
        return found

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        return "\n".join(self.log[-lines:])

    def rss(self) -> int:
        """Its resident memory now, in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    async def request(
        self, method: str, path: str, body: object = None, *, listener: str = "API_PORT", key: str = API_KEY
    ) -> Answer:
        """One HTTP request to one of its listeners; to the API with the key."""
        headers = {"Authorization": f"Bearer {key}"} if key and listener == "API_PORT" else {}
        sent = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = self.base(listener) + path
        asked = treq.request(method, url, headers=headers, data=sent, pool=self._pool, timeout=DEADLINE)
        response = await asked
        text = (await response.content()).decode()
        try:
            return Answer(response.code, json.loads(text))
        except ValueError:
            return Answer(response.code, text)

    async def publish(self, channel: str, data: object, message_id: str | None = None) -> Answer:
        """Publish as another service does."""
        body = {"channel": channel, "data": data}
        if message_id is not None:
            body["messageId"] = message_id
        return await self.request("POST", "/v1/publish", body)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name in ``/metrics`` that have these labels."""
        told = await self.request("GET", "/metrics", listener="METRICS_PORT")
        return sum(
            sample.value
            for family in text_string_to_metric_families(told.body)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def _line(self, line: str) -> None:
        if line.startswith(GREETING) or (self.greeting and not self.greeting[-1].startswith(LAST)):
            self.greeting.append(line)
            return
        if not line:
            return
        self.log.append(line)
        if '"listening"' not in line or self._listening is None:
            return
        entry = json.loads(line)
        if entry.get("message") == "listening":
            self.ports[entry["setting"]] = entry["port"]
            self.addresses[entry["setting"]] = entry["address"]
            if len(self.ports) == len(LISTENERS):
                self._settle()

    def _settle(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None and not listening.called:
            listening.callback(None)
