"""WorkerProcess: one worker, as its parent sees it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from . import workplace
from .memory import group_limit
from .settings import SETTINGS, Settings
from .workplace import FROM_PARENT, TO_PARENT, VARIABLE, Place

#: Bytes of a line of a worker that are kept.
MAX_LINE: Final = 65536

#: Lines of its standard error that are kept, to say why it ended.
_LAST: Final = 20

#: The directory from which this package comes.
_HOME: Final = str(Path(__file__).parents[1])

_PROGRAM: Final = "from twisted.scripts.twistd import run; run()"

#: How much of what its control group may use a node has for itself (as `node.MEMORY_SHARE`).
_MEMORY_SHARE: Final = 0.9

#: What systemd tells the parent, and the parent's own place, is nothing for a worker.
_NOT_PASSED: Final = frozenset(
    (
        *("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
        VARIABLE,
    )
)

_log = Logger()


def environment(settings: Settings, environ: Mapping[str, str], number: int) -> dict[str, str]:
    """What a worker is started with: all settings as they are here, its share of what is the node's."""
    count = settings.workers
    memory = settings.max_memory_bytes or int(group_limit() * _MEMORY_SHARE)
    values = {
        **{name: setting.kind.show(getattr(settings, name.lower())) for name, setting in SETTINGS.items()},
        "WORKERS": "1",
        "WS_MAX_CONNECTIONS": str(-(-settings.ws_max_connections // count)),
        "MAX_PENDING_LOGINS": str(-(-settings.max_pending_logins // count)),
        "DRAIN_RATE": str(-(-settings.drain_rate // count)),
        "MAX_MEMORY_BYTES": str(memory // count),
        # one port, one process that serves it
        "GRPC_ENABLED": "true" if settings.grpc_enabled and number == 1 else "false",
    }
    rest = {
        name: value for name, value in environ.items() if name not in SETTINGS and name not in _NOT_PASSED
    }
    return {**rest, **{name: value for name, value in values.items() if value}}


class WorkerProcess(ProcessProtocol):
    """One process of ``twistd realtime``, started with the place of a worker.

    :param reactor: IReactorProcess, and a clock.
    :param write: takes a line of the log, as JSON, that ends in a newline.
    :ivar ready: fires once it serves; False if it has ended before.
    :ivar ended: fires once it has ended.
    :ivar heard: when it was last heard of, seconds on the clock.
    """

    def __init__(self, reactor: Any, place: Place, write: Callable[[str], object]) -> None:
        self.place = place
        self.ready: Deferred[bool] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.heard = self.started = reactor.seconds()
        self.up = False
        self.gone = False
        self._reactor = reactor
        self._write = write
        self._partial = {1: b"", 2: b"", TO_PARENT: b""}
        self._last: list[str] = []

    def spawn(self, environ: Mapping[str, str], sockets: Mapping[str, int]) -> None:
        """Start it.

        :param sockets: descriptors of this process, by the setting of the port that each is for.
        """
        known = environ.get("PYTHONPATH")
        own = {
            "PYTHONPATH": _HOME if not known else os.pathsep.join((_HOME, known)),
            VARIABLE: msgspec.json.encode(self.place).decode(),
        }
        inherited = {self.place.descriptors[name]: number for name, number in sockets.items()}
        self._reactor.spawnProcess(
            self,
            sys.executable,
            [sys.executable, "-c", _PROGRAM, "--nodaemon", "--pidfile=", "realtime"],
            {**environ, **own},
            childFDs={1: "r", 2: "r", FROM_PARENT: "w", TO_PARENT: "r", **inherited},
        )

    @property
    def pid(self) -> int:
        """The process; 0 for none."""
        transport: Any = self.transport
        return 0 if transport is None or transport.pid is None else int(transport.pid)

    def say(self, word: bytes) -> None:
        """Tell it something (`workplace`)."""
        transport: Any = self.transport
        if transport is not None and not self.gone:
            with suppress(KeyError):  # it has closed that already
                transport.writeToChild(FROM_PARENT, word + b"\n")

    def kill(self) -> None:
        """End it by force."""
        transport: Any = self.transport
        if transport is not None and not self.gone:
            with suppress(ProcessExitedAlready):
                transport.signalProcess("KILL")

    # -- what it does

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, rest = (self._partial[childFD] + data).split(b"\n")
        self._partial[childFD] = rest[:MAX_LINE]
        for line in lines:
            if childFD == TO_PARENT:
                self._told(line)
            elif childFD == 1:
                self._logged(line.decode("ascii", "backslashreplace"))
            else:
                self._last = [*self._last[1 - _LAST :], line.decode("utf-8", "backslashreplace")]

    def childConnectionLost(self, childFD: int) -> None:
        """It ends, or has closed one of them; `processEnded` follows."""

    def processEnded(self, reason: Failure) -> None:
        self.gone, self.up = True, False
        for line in self._last:
            if line.strip():
                _log.error("worker {worker}: {text}", worker=self.place.number, text=line)
        if not self.ready.called:
            self.ready.callback(False)
        self.ended.callback(None)

    def _told(self, word: bytes) -> None:
        self.heard = self._reactor.seconds()
        if word == workplace.READY and not self.ready.called:
            self.up = True
            self.ready.callback(True)

    def _logged(self, line: str) -> None:
        """A line of its log becomes one of ours, with its number."""
        if line.startswith("{") and line.endswith("}"):
            self._write(f'{line[:-1]},"worker":{self.place.number}}}\n')
        elif line:
            _log.info("worker {worker}: {text}", worker=self.place.number, text=line)
