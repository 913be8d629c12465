"""Real Redis servers for tests: started on free ports, and frozen, killed and restarted as tests wish.

Sentinel and Cluster are in `tests.redis_sets`.
"""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import hiredis
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from .clients.children import DEADLINE, Child, Late, program, within
from .redis_tls import Authority

#: The user by which tests themselves speak to a server that was given an ACL file.
ADMIN = ("the-tests", "the-tests-own-password")
HOST = "127.0.0.1"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def until(holds: Callable[[], Awaitable[Any]], what: str, seconds: float = DEADLINE) -> Any:
    """Ask until something holds that nobody tells by itself; what was answered.

    A refused or lost connection, and an error reply, count as "not yet".

    :raises Late: it did not hold in time.
    """
    ends = reactor.seconds() + seconds
    last: object = None
    while True:
        try:
            last = await within(max(0.1, ends - reactor.seconds()), _asked(holds), lambda: what)
            if last:
                return last
        except (ConnectError, ConnectionLost, hiredis.ReplyError) as failed:
            last = failed
        if reactor.seconds() > ends:
            raise Late(f"not within {seconds:g} s: {what}; last answer: {last!r}")
        await deferLater(reactor, 0.01)


def _asked(holds: Callable[[], Awaitable[Any]]) -> Deferred[Any]:
    async def ask() -> Any:
        return await holds()

    return Deferred.fromCoroutine(ask())


class Client(Protocol):
    """The tests' own connection to a server: commands one after the other, replies as bytes.

    :ivar pushed: replies that nobody waits for: what a subscriber gets.
    """

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[Deferred[Any]] = deque()
        self.pushed: list[Any] = []
        self.lost = False

    def command(self, *args: bytes | str | int | float) -> Deferred[Any]:
        """Send a command. An error reply is a `hiredis.ReplyError`."""
        waiting: Deferred[Any] = Deferred()
        if self.lost:
            waiting.errback(ConnectionLost())
            return waiting
        self._waiting.append(waiting)
        self.transport.write(hiredis.pack_command(args))
        return waiting

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if not self._waiting:
                self.pushed.append(reply)
                continue
            waiting = self._waiting.popleft()
            if waiting.called:
                continue
            if isinstance(reply, Exception):
                waiting.errback(reply)
            else:
                waiting.callback(reply)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = True
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            if not one.called:
                one.errback(ConnectionLost())


class RedisServer:
    """One ``redis-server`` process.

    :param directory: a new directory of its own, for its data.
    :param password: what ``requirepass`` is set to.
    :param users: lines of an ACL file (``user alice on >secret ~* &* +@all``); not beside `password`.
    :param appendonly: whether it keeps a log of its writes, flushed at each one.
    :param save: when it saves, as in its configuration; the default is never by itself.
    :param unixsocket: whether it listens at `socket` too.
    :param tls: whose certificate it presents at `tls_port`; the plain port stays.
    :param movable_clock: whether `advance` works.
    :param options: further options, ``"maxclients", 20``.
    :ivar port: its TCP port, the same over all restarts.
    :ivar log: the lines that it wrote.
    """

    def __init__(
        self,
        directory: Path,
        *options: str | int,
        password: str = "",
        users: tuple[str, ...] = (),
        appendonly: bool = False,
        save: str = "",
        unixsocket: bool = False,
        tls: Authority | None = None,
        movable_clock: bool = False,
    ) -> None:
        assert not (users and password), "an ACL file says the default user's password"
        self.directory = directory.absolute()
        self.password = password
        self.users = users
        self.port = 0
        self.tls_port = 0
        # the path of a unix socket has to be short
        self.socket = Path(tempfile.gettempdir()) / f"redis-{secrets.token_hex(8)}.sock"
        self.log: list[str] = []
        self._options = [str(option) for option in options]
        self._persistence = ["--appendonly", "yes", "--appendfsync", "always"] if appendonly else []
        self._persistence += ["--save", save]
        self._unixsocket = unixsocket
        self._tls = tls
        self._movable_clock = movable_clock
        self._advanced = 0.0
        self._child = Child(self.log.append)
        self._client: Client | None = None

    # -- life

    async def start(self, *, ready: bool = True) -> RedisServer:
        """Start it.

        :param ready: whether to wait until PING is answered with PONG.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        fixed = bool(self.port)
        for _ in range(10):
            # Somebody may take a free port before the server does.
            if not fixed:
                self.port = free_port()
                self.tls_port = free_port() if self._tls else 0
            self._child = Child(self.log.append)
            self._child.start(self._command(), self._environ(), self.directory)
            if not ready:
                return self
            try:
                await until(self._pong, f"PING answered on port {self.port}; log:\n{self.tail()}")
            except _Ended:
                if fixed or not any("Address already in use" in line for line in self.log[-10:]):
                    raise
                continue
            return self
        raise AssertionError("no port stayed free")

    def _command(self) -> list[str]:
        # With the test process the servers end too, however it ends.
        command = [program("setpriv"), "--pdeathsig", "KILL", program("redis-server"), *self._mode()]
        command += [
            "--bind",
            HOST,
            "--port",
            str(self.port),
            "--dir",
            str(self.directory),
            "--daemonize",
            "no",
        ]
        command += [*self._persistence, "--enable-debug-command", "local"]
        if self.password:
            command += ["--requirepass", self.password]
        if self.users:
            everything = f"user {ADMIN[0]} on >{ADMIN[1]} ~* &* +@all"
            acl = self.directory / "users.acl"
            acl.write_text("\n".join([*self.users, everything, ""]))
            command += ["--aclfile", str(acl)]
        if self._unixsocket:
            command += ["--unixsocket", str(self.socket)]
        if self._tls is not None:
            certificate, key = self._tls.issue(self.directory)
            command += ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no"]
            command += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
            command += ["--tls-ca-cert-file", str(self._tls.certificate)]
        return command + self._options

    def _mode(self) -> list[str]:
        return []

    def _environ(self) -> dict[str, str]:
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        if self._movable_clock:
            self._set_clock()
            environ |= {"LD_PRELOAD": str(_movable_clock()), "MOVABLE_CLOCK": str(self._clock_file)}
        return environ

    async def _pong(self) -> bool:
        if not self._child.running:
            raise _Ended(f"redis-server ended with status {self._child.status}; log:\n{self.tail()}")
        return await self.command("PING") == b"PONG"

    @property
    def pid(self) -> int:
        """Its process id; only while it runs."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended; a frozen one runs."""
        return self._child.running

    @property
    def url(self) -> str:
        """What REDIS_URL is for it, without a password."""
        return f"redis://{HOST}:{self.port}"

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log[-30:])

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): its sockets stay open, and accept."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def kill(self) -> None:
        """End it by SIGKILL, frozen or not; returns once it is gone. Its files stay."""
        if self._child.running:
            await self._child.stop(DEADLINE, "KILL")
        self._hang_up()

    async def restart(self, *, ready: bool = True) -> None:
        """Kill it, if it runs, and start it on the files that it left."""
        await self.kill()
        await self.start(ready=ready)

    async def restart_empty(self) -> None:
        """Kill it and start it without any data."""
        await self.kill()
        self._remove_data()
        await self.start()

    async def snapshot(self) -> Path:
        """Keep a copy of its data as it is now; for `restart_from`."""
        await self.command("SAVE")
        taken = sum(1 for _ in self.directory.glob("snapshot-*"))
        kept = self.directory / f"snapshot-{taken}"
        shutil.copy(self.directory / "dump.rdb", kept)
        return kept

    async def restart_from(self, snapshot: Path) -> None:
        """Kill it and start it with the data of a snapshot. Not for an append-only one."""
        await self.kill()
        self._remove_data()
        shutil.copy(snapshot, self.directory / "dump.rdb")
        await self.start()

    def _remove_data(self) -> None:
        (self.directory / "dump.rdb").unlink(missing_ok=True)
        shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)

    # -- its clock

    @property
    def _clock_file(self) -> Path:
        return self.directory / "clock"

    def advance(self, seconds: float) -> None:
        """Move its wall clock forward at once: what expires within that time has expired.

        Its monotonic clock, on which its own periodic work runs, stays.
        """
        assert self._movable_clock, "give movable_clock=True"
        self._advanced += seconds
        self._set_clock()

    def _set_clock(self) -> None:
        # It is mapped into the server: the bytes change in place.
        with open(self._clock_file, "r+b" if self._clock_file.exists() else "wb") as file:
            file.write(struct.pack("d", self._advanced))

    # -- the tests' own commands

    async def client(self) -> Client:
        """A new connection, logged in as one who may do everything; the caller closes it."""
        client = await connectProtocol(TCP4ClientEndpoint(reactor, HOST, self.port, DEADLINE), Client())
        assert isinstance(client, Client)
        if self.users:
            await client.command("AUTH", *ADMIN)
        elif self.password:
            await client.command("AUTH", self.password)
        return client

    async def command(self, *args: bytes | str | int | float) -> Any:
        """Run a command and answer its reply, raw; an error reply is raised as `hiredis.ReplyError`.

        It goes over a connection of the tests' own that is made anew when it was lost.
        """
        if self._client is None or self._client.lost:
            self._client = await self.client()
        return await within(
            DEADLINE, self._client.command(*args), lambda: f"the reply to {args[0]!r}; log:\n{self.tail()}"
        )

    async def info(self, section: str, field: str) -> str:
        """One field of INFO."""
        text = (await self.command("INFO", section)).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)[field]

    async def clients(self, kind: str = "normal") -> list[dict[str, str]]:
        """CLIENT LIST of one type, without the tests' own connections."""
        text = (await self.command("CLIENT", "LIST", "TYPE", kind)).decode()
        found = [dict(item.partition("=")[::2] for item in line.split()) for line in text.splitlines()]
        return [one for one in found if one["name"]]

    def _hang_up(self) -> None:
        if self._client is not None and not self._client.lost:
            self._client.transport.abortConnection()
        self._client = None

    async def stop(self) -> None:
        """End it and drop its data."""
        client = self._client
        await self.kill()
        if client is not None:
            await until(_lost(client), "the tests' own connection to end")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.socket.unlink(missing_ok=True)


class _Ended(AssertionError):
    """The server ended by itself."""


def _lost(client: Client) -> Callable[[], Awaitable[bool]]:
    async def lost() -> bool:
        return client.lost

    return lost


@functools.cache
def _movable_clock() -> Path:
    """The library made of ``movable_clock.c``, compiled once per test process."""
    source = Path(__file__).with_name("movable_clock.c")
    made = Path(tempfile.mkdtemp(prefix="movable-clock-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    library = made / "movable_clock.so"
    subprocess.run([program("cc"), "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


async def start_redis(case: TestCase, *options: str | int, **more: Any) -> RedisServer:
    """Start a server that ends with the test; for what it takes see `RedisServer`."""
    server = RedisServer(Path(case.mktemp()), *options, **more)
    case.addCleanup(server.stop)
    await server.start()
    return server
