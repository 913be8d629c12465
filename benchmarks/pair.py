"""Two nodes over a Redis of their own: the load's receivers at one, its publisher at the other."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import hiredis
import msgspec

from .process import Sample, Server, StartFailed, cpu_seconds, free_port

#: What nodes of this service send, as ``INFO commandstats`` names it. What scripts call is counted there
#: too, under other names, and is no command of a node.
SENT = frozenset(
    (
        *("eval", "evalsha", "script|load", "ping", "auth", "client|setname", "role", "wait", "xread"),
        *("subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe"),
    )
)


class Redis(Server):
    """A redis-server, without persistence.

    :raises StartFailed: it is not installed.
    """

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise StartFailed("redis-server is missing; install it: apt-get install redis-server")
        port = free_port()
        self._directory = tempfile.TemporaryDirectory()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__(command, {}, port, Path(self._directory.name))

    def commands(self, counted: frozenset[str] = SENT) -> int:
        """How many commands nodes have sent it so far.

        :param counted: those that come from nodes only.
        """
        stats: str = self.ask(b"INFO", b"commandstats").decode()
        sent = 0
        for line in stats.splitlines():
            name, _, told = line.removeprefix("cmdstat_").partition(":")
            if name in counted:
                sent += int(told.removeprefix("calls=").partition(",")[0])
        return sent

    def ask(self, *command: bytes) -> Any:
        """The reply to one command."""
        reader = hiredis.Reader()
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(hiredis.pack_command(command))
            while (reply := reader.gets()) is False:
                reader.feed(connection.recv(65536))
        if isinstance(reply, Exception):
            raise StartFailed(f"Redis answered {reply!r} to {command!r}")
        return reply


class Pair:
    """A context manager like `Server`; what it samples is the receivers' node, with the others beside.

    :param redis: not started yet.
    :param node: makes a node from REDIS_URL.
    :param hears: whether both nodes listen there by now.
    :param counted: the commands that come from nodes only.
    """

    def __init__(
        self,
        redis: Redis,
        node: Callable[[str], Server],
        hears: Callable[[Redis], bool],
        counted: frozenset[str] = SENT,
    ) -> None:
        self._hears = hears
        self._counted = counted
        url = f"redis://127.0.0.1:{redis.port}"
        self._redis = redis
        self._receiver, self._publisher = node(url), node(url)
        self.port = self._receiver.port
        self.publisher_port = self._publisher.port
        self._stack = ExitStack()

    def __enter__(self) -> Pair:
        with ExitStack() as stack:
            for server in (self._redis, self._receiver, self._publisher):
                stack.enter_context(server)
            self._await_listeners()
            self._stack = stack.pop_all()
        return self

    def _await_listeners(self) -> None:
        """Wait until both nodes hear of each other: they listen before they have reached Redis."""
        ends = time.monotonic() + 10
        while not self._hears(self._redis):
            if time.monotonic() > ends:
                raise StartFailed("the nodes do not reach Redis")
            time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """The receivers' node."""
        return self._receiver.pid

    def sample(self) -> Sample:
        beside = {
            "publisher": cpu_seconds(self._publisher.pid),
            "redis": cpu_seconds(self._redis.pid),
            "commands": self._redis.commands(self._counted),
        }
        return msgspec.structs.replace(self._receiver.sample(), beside=beside)

    def output(self, size: int = 1500) -> str:
        """The end of what the nodes printed."""
        return f"{self._receiver.output(size)}\n{self._publisher.output(size)}"
