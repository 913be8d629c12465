"""Child processes of tests: lines out of them, lines into them, and their end within a bound."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted.internet import error, reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

#: Seconds that anything awaited in these tests may take; far more than it does on a busy machine.
DEADLINE = 30.0

#: How to get what a test misses.
INSTALL = {
    "node": "apt-get install nodejs npm",
    "node_modules": "(cd tests/clients && npm install --no-package-lock)",
    "chromium": "apt-get install chromium",
    "twistd": "pip install -e '.[test]'",
    "redis-server": "apt-get install redis-server",
    "setpriv": "apt-get install util-linux",
    "promtool": "apt-get install prometheus",
    "prometheus": "apt-get install prometheus",
    "haproxy": "apt-get install haproxy",
    "cc": "apt-get install gcc libc6-dev",
    "schemathesis": "pip install -e '.[test]'",
}


class Missing(Exception):
    """A tool that the tests need is not installed; says how to install it."""

    def __init__(self, what: str, where: object) -> None:
        super().__init__(f"{what} is missing ({where}): run `make test`, or: {INSTALL[what]}")


class Late(Exception):
    """What was awaited did not happen in time."""


def program(name: str) -> str:
    """The path of a program.

    :raises Missing: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise Missing(name, "not in PATH")
    return found


async def within(seconds: float, waiting: Deferred, what: Callable[[], str]) -> object:
    """Await a Deferred for at most so many seconds of real time.

    :param what: says what was awaited and what is known, for the error.
    :raises Late: it did not fire in time.
    """
    late = reactor.callLater(seconds, waiting.cancel)
    try:
        return await waiting
    except Exception as failed:
        if late.active():
            raise
        raise Late(f"not within {seconds:g} s: {what()}") from failed
    finally:
        if late.active():
            late.cancel()


class Child(ProcessProtocol):
    """One child process.

    :param took: called with each line of its standard output and standard error.
    """

    def __init__(self, took: Callable[[str], None]) -> None:
        self._took = took
        self._rest = {1: b"", 2: b""}
        self._waiting: list[Deferred[None]] = []
        self.status: int | None = None

    def start(self, command: Sequence[str], environ: Mapping[str, str], directory: Path) -> None:
        """Start it, with its three standard streams as pipes."""
        reactor.spawnProcess(self, command[0], list(command), dict(environ), str(directory))

    @property
    def pid(self) -> int:
        """Its process id; only while it runs."""
        return self.transport.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.transport is not None and self.status is None

    def write(self, line: str) -> None:
        """Write a line to its standard input."""
        if not self.running:
            raise Late(f"the child ended with status {self.status}")
        self.transport.write(line.encode() + b"\n")

    def ended(self) -> Deferred[None]:
        """Fires once the process has ended and all that it wrote was taken."""
        waiting: Deferred[None] = Deferred()
        if self.running:
            self._waiting.append(waiting)
        else:
            waiting.callback(None)
        return waiting

    async def stop(self, seconds: float, signal: str | None = "TERM") -> bool:
        """End it; KILL after `seconds`.

        :param signal: what to send; None closes its standard input instead.
        :returns: whether it ended by itself in time.
        """
        if not self.running:
            return True
        if signal is None:
            self.transport.closeStdin()
        else:
            self.transport.signalProcess(signal)
        try:
            await within(seconds, self.ended(), lambda: "the child's end")
        except Late:
            self.transport.signalProcess("KILL")
            await within(DEADLINE, self.ended(), lambda: "the killed child's end")
            return False
        return True

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._rest[childFD] = (self._rest[childFD] + data).split(b"\n")
        for line in lines:
            self._took(line.decode(errors="replace"))

    def processEnded(self, reason: Failure) -> None:
        ended = reason.value
        assert isinstance(ended, error.ProcessTerminated | error.ProcessDone)
        self.status = -ended.signal if ended.signal else ended.exitCode
        for rest in self._rest.values():
            if rest:
                self._took(rest.decode(errors="replace"))
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.called:
                one.callback(None)
