"""Workplace: what a worker process knows of its place in a node, and what its parent tells it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

#: The variable in which a worker finds its place.
VARIABLE: Final = "_REALTIME_WORKER"

#: Descriptors of a worker: on which it hears of its parent, and tells it; those behind are its listeners'.
FROM_PARENT: Final = 3
TO_PARENT: Final = 4
FIRST_LISTENER: Final = 5

#: What a parent says, a line each: stop taking connections and drain; drain; be quick about it.
RETIRE: Final = b"retire"
DRAIN: Final = b"drain"
HURRY: Final = b"hurry"

#: What a worker says, a line each: it is up; its reactor turns.
READY: Final = b"ready"
BEAT: Final = b"beat"

#: Seconds between two beats.
BEAT_INTERVAL: Final = 1.0

_log = Logger()


class Place(msgspec.Struct, frozen=True):
    """A worker's place.

    :ivar number: 1 for the first.
    :ivar prefix: tells it from all others of this node, also from those that were there before it.
    :ivar directory: where the workers' Unix sockets are.
    :ivar descriptors: sockets that listen, by the setting of the port that each is for.
    """

    number: int
    prefix: str
    directory: str
    descriptors: dict[str, int]

    @property
    def admin(self) -> str:
        """The Unix socket on which the worker tells its health and its metrics."""
        return admin_socket(self.directory, self.prefix)


def admin_socket(directory: str, prefix: str) -> str:
    """Where a worker tells its health and its metrics."""
    return os.path.join(directory, f"{prefix}.admin")


def place_of(environ: Mapping[str, str]) -> Place | None:
    """The place of this process, if it is a worker."""
    text = environ.get(VARIABLE)
    return None if not text else msgspec.json.decode(text, type=Place)


@implementer(IReadDescriptor)
class _Words:
    """The words of the parent."""

    def __init__(self, said: Callable[[bytes], None], gone: Callable[[], None]) -> None:
        self._said = said
        self._gone = gone
        self._rest = b""

    def fileno(self) -> int:
        return FROM_PARENT

    def logPrefix(self) -> str:
        return "parent"

    def doRead(self) -> Failure | None:
        try:
            data = os.read(FROM_PARENT, 4096)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self._gone()
            return None
        *words, self._rest = (self._rest + data).split(b"\n")
        for word in words:
            self._said(word)
        return None

    def connectionLost(self, reason: object) -> None:
        """The other end was closed with nothing left to read; or the reactor stops."""
        self._gone()


class Parent:
    """The parent, as a worker sees it.

    :param reactor: IReactorFDSet, and a clock.
    :param words: what to do at each of its words; the end of the parent counts as `DRAIN`.
    """

    def __init__(self, reactor: Any, words: Mapping[bytes, Callable[[], object]]) -> None:
        self._reactor: IReactorFDSet = reactor
        self._words = words
        self._beat = LoopingCall(self._tell, BEAT)
        self._beat.clock = reactor
        self._reader = _Words(self._said, self._gone)
        self._ending = False

    def ready(self) -> None:
        """The worker is up: say so, and listen."""
        os.set_blocking(FROM_PARENT, False)
        os.set_blocking(TO_PARENT, False)
        self._reactor.addReader(self._reader)
        reactor: Any = self._reactor
        reactor.addSystemEventTrigger("before", "shutdown", self._end)
        self._tell(READY)
        self._beat.start(BEAT_INTERVAL)

    def _said(self, word: bytes) -> None:
        act = self._words.get(word)
        if act is not None:
            act()

    def _gone(self) -> None:
        self._reactor.removeReader(self._reader)
        if self._ending:
            return
        _log.warn("the parent process has gone; this worker drains")
        self._said(DRAIN)

    def _end(self) -> None:
        self._ending = True

    def _tell(self, word: bytes) -> None:
        try:
            os.write(TO_PARENT, word + b"\n")
        except OSError:
            # a parent that does not read hears of the next one; of one that has gone we hear otherwise
            return
