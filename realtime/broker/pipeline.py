"""Pipeline: publishes messages in their order, several under way at a time, under the relay's lease."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import BrokerUnavailable, InternalError, RealtimeError
from ..messages import Publication, Published
from .held import Work
from .redis import arguments

#: Messages under way at a time.
UNDER_WAY: Final = 128

_log = Logger()

#: A publication and its idempotency key.
Prepared = tuple[Publication, str | None]


class IRelayBus(Protocol):
    """What the relay needs of `RedisBroker`. All of it fails with `BrokerUnavailable`."""

    node: str

    def run(self, name: str, *args: bytes | str | int) -> Deferred[list[Any]]:
        """The answer of a script; repeated where the server turned out to be another one."""

    def run_once(self, name: str, *args: bytes | str | int) -> Deferred[list[Any]]:
        """The answer of a script; fails where it would have to be repeated, and so lose its turn."""

    def command(self, *args: bytes | str | int) -> Deferred[Any]:
        """The answer of a plain command."""

    def published(self, answer: list[Any]) -> Published:
        """What publish.lua says of a publication that it took."""


class IPlainEvents(Protocol):
    """What becomes of a message of another service (`ingress.redis_events`)."""

    patterns: tuple[bytes, ...]

    def ours(self, channel: bytes, data: bytes) -> bool:
        """Whether this service said so itself, to others."""

    def prepare(
        self, channel: bytes, data: bytes, message_id: bytes | None, *, inside: bool, receipt: bytes = b""
    ) -> Prepared | Deferred[Prepared]:
        """What is to be published; raises or fails with a `RealtimeError` if nothing is.

        `BrokerUnavailable` says that this is not known now.

        :param message_id: what stood beside the data.
        :param inside: whether it may stand in the data.
        :param receipt: the id of the publication, if it is to have a receipt.
        """

    def handled(self, channel: bytes, outcome: str, why: str = "") -> None:
        """A message was dealt with: ``accepted``, ``repeated`` or the code of its refusal."""


class Pipeline:
    """Publishes in the order in which messages are put in.

    A message is prepared while earlier ones are under way, and published when all of them are. What is
    refused is confirmed in its turn. After a failure nothing more is sent: of what is under way it is
    not known whether it was done, and only a fresh token keeps it from being done later.

    :param ended: called once when it ends by itself: with True if another node holds the lease.
    """

    def __init__(self, bus: IRelayBus, events: IPlainEvents, ended: Callable[[bool], None]) -> None:
        self._bus = bus
        self._events = events
        self._ended = ended
        self._token = ""
        self._turn = 0
        self._waiting: deque[Work] = deque()
        self._preparing: deque[Work] = deque()
        self._under_way = 0
        self._advancing = False
        self._drained: list[tuple[int, Deferred[int]]] = []
        #: The entry of the stream that was handled last.
        self.entry = b""

    def __len__(self) -> int:
        """Messages that are in it."""
        return len(self._waiting) + len(self._preparing) + self._under_way

    @property
    def running(self) -> bool:
        return bool(self._token)

    def begin(self, token: str, works: Iterable[Work] = ()) -> None:
        """Publish from now on under a token, these first."""
        self.stop()
        self._token = token
        self._waiting.extend(works)
        self._advance()

    def stop(self) -> None:
        """Send nothing more, and forget what was not sent."""
        left = len(self)
        self._token = ""
        self._turn += 1
        self._waiting.clear()
        self._preparing.clear()
        self._under_way = 0
        self._tell_drained(True, left)

    def put(self, work: Work) -> None:
        """Publish a message after all that were put in before."""
        self._waiting.append(work)
        self._advance()

    def drained(self, to: int = 0) -> Deferred[int]:
        """Fires with 0 once no more than so many are in it; if it ends before that, with what was in it."""
        if len(self) <= to:
            return succeed(0)
        waiting: Deferred[int] = Deferred()
        self._drained.append((to, waiting))
        return waiting

    def _tell_drained(self, ended: bool, left: int) -> None:
        told = [entry for entry in self._drained if ended or left <= entry[0]]
        self._drained = [entry for entry in self._drained if entry not in told]
        for _, waiting in told:
            waiting.callback(left if ended else 0)

    def _advance(self) -> None:
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._token and (self._prepare_next() or self._send_next()):
                pass
        finally:
            self._advancing = False
        if self._token and self._drained:
            self._tell_drained(False, len(self))

    def _prepare_next(self) -> bool:
        if not self._waiting or len(self._preparing) + self._under_way >= UNDER_WAY:
            return False
        work = self._waiting.popleft()
        self._preparing.append(work)
        if work.prepared is None or isinstance(work.prepared, Deferred):
            self._prepare(work)
        return True

    def _prepare(self, work: Work) -> None:
        try:
            # Who adds to the stream is told the entry's id, and no other.
            prepared = self._events.prepare(
                work.channel,
                work.data,
                work.message_id,
                inside=not work.entry,
                receipt=work.entry if work.receipt else b"",
            )
        except Exception:
            self._not_prepared(Failure(), work, self._turn)
            return
        work.prepared = prepared
        if isinstance(prepared, Deferred):
            prepared.addCallback(self._is_prepared, work)
            prepared.addErrback(self._not_prepared, work, self._turn)

    def _is_prepared(self, prepared: Prepared, work: Work) -> None:
        work.prepared = prepared
        self._advance()

    def _not_prepared(self, failure: Failure, work: Work, turn: int) -> None:
        error = failure.value
        if isinstance(error, BrokerUnavailable):
            work.prepared = None
            if turn == self._turn:
                self._end(False)
            return
        if not isinstance(error, RealtimeError):
            _log.failure("a message of another service can't be prepared", failure)
            error = InternalError()
        work.prepared = error
        self._advance()

    def _send_next(self) -> bool:
        if not self._preparing:
            return False
        work = self._preparing[0]
        prepared = work.prepared
        if prepared is None or isinstance(prepared, Deferred):
            return False
        self._preparing.popleft()
        self._under_way += 1
        if isinstance(prepared, RealtimeError):
            self._refuse(work, prepared)
        else:
            about = (self._token, work.confirmation, work.entry)
            sent = self._bus.run_once("publish", *arguments(*prepared), *about)
            sent.addCallback(self._published, work, self._turn)
            sent.addErrback(self._failed, work, self._turn)
        return True

    def _refuse(self, work: Work, error: RealtimeError) -> None:
        sent = self._bus.run_once("confirm", self._token, work.confirmation, work.entry)
        sent.addCallback(self._confirmed, work, error, self._turn)
        sent.addErrback(self._failed, work, self._turn)

    def _published(self, answer: list[Any], work: Work, turn: int) -> None:
        if answer[0] == b"FENCED":
            self._fenced(turn)
            return
        published = self._bus.published(answer)
        self._events.handled(work.channel, "repeated" if published.repeated else "accepted")
        self._done(work, turn)

    def _confirmed(self, reply: list[Any], work: Work, error: RealtimeError, turn: int) -> None:
        if reply[0] == b"FENCED":
            self._fenced(turn)
            return
        self._events.handled(work.channel, error.code, error.message)
        self._done(work, turn)

    def _failed(self, failure: Failure, work: Work, turn: int) -> None:
        if failure.check(BrokerUnavailable):
            if turn == self._turn:
                self._end(False)
            return
        # Tried again, it would fail again, and keep all later ones waiting.
        _log.failure("a message of another service can't be published", failure)
        if turn == self._turn:
            self._refuse(work, InternalError())

    def _done(self, work: Work, turn: int) -> None:
        if turn != self._turn:
            return
        if work.entry:
            self.entry = work.entry
        self._under_way -= 1
        self._advance()

    def _fenced(self, turn: int) -> None:
        if turn == self._turn:
            self._end(True)

    def _end(self, fenced: bool) -> None:
        self.stop()
        self._ended(fenced)
