"""GrpcRoad: the node's side of the gRPC front: starts it, does what it hands over, starts it again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..api_keys import ApiKeys
from ..booking_workers import BookingWorkers
from ..broker.receipts import Receipt
from ..errors import InternalError, InvalidMessage, RealtimeError, Unauthorized, UnknownEvent
from ..front import pipe
from ..metrics import Metrics
from ..pace import Pace
from ..queues.interface import Change
from ..receipt_watches import ReceiptWatches
from ..security import Security
from ..watching import KINDS as OF_USERS
from ..watching import Watching
from .queue_verbs import PROCEED
from .shapes import MAX_NAMES, receipt_told
from .verbs import VERBS, Caller, Verbs

_log = Logger()

#: Seconds before the front is started again, and before it is ended by force.
AGAIN: Final = 1.0
FORCE: Final = 3.0
#: Seconds between two looks at whether the node is ready.
LOOK: Final = 0.5

#: What can be watched; the first is what is meant by nothing.
KINDS: Final = ("presence", "queue", "receipts")

_MODULE: Final = "realtime.front.server"
#: The directory from which this package comes.
_HOME: Final = str(Path(__file__).parents[2])


class GrpcRoad:
    """The gRPC API of one node.

    :param clock: the reactor: IReactorTime and IReactorProcess.
    :param pace: does what is asked.
    :param ready: whether the node wants traffic.
    :param listening: called with the port, whenever the front is up.
    """

    def __init__(
        self,
        clock: Any,
        options: pipe.Options,
        *,
        keys: ApiKeys,
        security: Security,
        verbs: Verbs,
        watching: Watching,
        receipts: ReceiptWatches,
        workers: BookingWorkers,
        metrics: Metrics,
        pace: Pace,
        ready: Callable[[], bool],
        listening: Callable[[int], object],
    ) -> None:
        self._clock = clock
        self._options = options
        self._keys = keys
        self._security = security
        self._verbs = verbs
        self._watching = watching
        self._receipts = receipts
        self._workers = workers
        self._metrics = metrics
        self.pace = pace
        self._ready = ready
        self._listening = listening
        self._front: _Front | None = None
        self._stopping = False
        self._again: Any = None

    def start(self) -> None:
        """Start the front; it binds its port a moment later."""
        self._front = _Front(self)
        known = os.environ.get("PYTHONPATH")
        path = _HOME if not known else os.pathsep.join((_HOME, known))
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._clock.spawnProcess(
            self._front,
            sys.executable,
            [sys.executable, "-m", _MODULE, msgspec.json.encode(self._options).decode()],
            {**environ, "PYTHONPATH": path},
            childFDs={1: "r", 2: "r", pipe.FROM_NODE: "w", pipe.TO_NODE: "r"},
        )
        self._front.look()

    def stop(self) -> Deferred[None]:
        """End it; fires once it has ended."""
        self._stopping = True
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._front is None:
            return succeed(None)
        return self._front.stop()

    # -- what the front says

    def up(self, port: int) -> None:
        """It listens."""
        self._listening(port)

    def gone(self, why: str) -> None:
        """It has ended."""
        self._front = None
        if self._stopping:
            return
        _log.error("the gRPC front has ended and is started again: {why}", why=why)
        self._metrics.front_restarted()
        self._again = self._clock.callLater(AGAIN, self.start)

    def answered(self, verb: str, status: int) -> None:
        """A request was answered."""
        self._metrics.asked_grpc(verb, status)

    def caller(self, key: bytes, peer: str) -> Caller:
        """Who asks.

        :raises Unauthorized: the key is none.
        """
        found = self._keys.find(key)
        address = peer.partition(":")[2].rpartition(":")[0].strip("[]") or peer
        if found is None:
            self._security.tell("api refused", address=address, reason=Unauthorized.code)
            raise Unauthorized()
        return Caller(found, address)

    def ask(self, asked: pipe.Ask) -> Deferred[Any] | None:
        """Do what is asked; None if nobody waits for the answer any more.

        :raises RealtimeError: it is refused.
        """
        if 0 < asked.deadline <= self._clock.seconds():
            return None
        caller = self.caller(asked.key, asked.peer)
        verb = VERBS.get(asked.verb)
        if verb is None:
            raise UnknownEvent()
        caller.key.check(verb.scope)
        return self._verbs.perform(verb, verb.decode(asked.request), caller)

    def watch(self, who: object, watch: pipe.Watch, told: Callable[[str, bytes], None]) -> None:
        """Let somebody hear of what happens.

        :raises RealtimeError: they may not.
        """
        self.caller(watch.key, watch.peer).key.check("read")
        kinds = frozenset(watch.kinds) or OF_USERS
        if kinds.difference(KINDS):
            raise InvalidMessage(f"kinds: expected some of {', '.join(KINDS)}")
        if len(watch.receipts) > MAX_NAMES or len(watch.users) > MAX_NAMES:
            raise InvalidMessage(f"at most {MAX_NAMES} receipts, and as many users")
        if kinds & OF_USERS:
            self._watching.start(who, frozenset(watch.users), told, kinds)
        if "receipts" in kinds:

            def receipted(receipt: Receipt, now: float) -> None:
                told("receipt", msgspec.json.encode(receipt_told(receipt, now)))

            self._receipts.start(who, frozenset(watch.receipts), receipted)

    def unwatch(self, who: object) -> None:
        """They want it no more."""
        self._watching.stop(who)
        self._receipts.stop(who)

    def open(
        self,
        who: object,
        opened: pipe.Open,
        told: Callable[[list[Change]], None],
        ended: Callable[[RealtimeError], None],
    ) -> None:
        """Let somebody work through booking queues.

        :raises RealtimeError: they may not.
        """
        self.caller(opened.key, opened.peer).key.check_channel(PROCEED)
        self._workers.open(who, opened.worker, opened.replay, told, ended)

    def acknowledge(self, who: object, changes: tuple[int, ...]) -> None:
        """They have dealt with these."""
        # One whose stream has ended meanwhile will hear of them anew.
        with suppress(InvalidMessage):
            self._workers.acknowledge(who, changes)

    def close(self, who: object) -> None:
        """They want it no more."""
        self._workers.close(who)

    @property
    def clock(self) -> Any:
        return self._clock

    @property
    def ready(self) -> bool:
        return self._ready()


class _Front(ProcessProtocol):
    """One process of the front."""

    def __init__(self, road: GrpcRoad) -> None:
        self._road = road
        self._unframer = pipe.Unframer()
        self._out: list[bytes] = []
        self._watches: set[int] = set()
        self._opened: set[int] = set()
        self._told_ready: bool | None = None
        self._looking: Any = None
        self._ended: Deferred[None] = Deferred()
        self._forcing: Any = None
        self._why = ""
        # whether it reads no more
        self._deaf = False

    # -- to the front

    def say(self, message: pipe.FromNode) -> None:
        """Send to the front, with whatever else is said in this turn."""
        if not self._out:
            self._road.clock.callLater(0, self._flush)
        self._out.append(pipe.framed(message))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.transport is not None and not self._deaf:
            self.transport.writeToChild(pipe.FROM_NODE, b"".join(out))

    def look(self) -> None:
        """Tell the front whether the node is ready, whenever that changes."""
        ready = self._road.ready
        if ready != self._told_ready:
            self._told_ready = ready
            self.say(pipe.Ready(ready))
        self._looking = self._road.clock.callLater(LOOK, self.look)

    def stop(self) -> Deferred[None]:
        """End it, by force if need be."""
        self.say(pipe.Stop(1.0))
        self._forcing = self._road.clock.callLater(FORCE, self._kill)
        return self._ended

    def _kill(self) -> None:
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    # -- from the front

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != pipe.TO_NODE:
            self._why = data.decode(errors="replace")[-500:]
            return
        try:
            for body in self._unframer.feed(data):
                self._took(pipe.DECODE_FROM_FRONT(body))
        except ValueError:
            _log.failure("what the gRPC front says can't be understood")
            self._kill()

    def _took(self, message: pipe.FromFront) -> None:
        if isinstance(message, pipe.Ask):
            self._road.pace.do(partial(self._ask, message))
        elif isinstance(message, pipe.Acknowledge):
            self._road.acknowledge((self, message.id), message.changes)
        elif isinstance(message, pipe.Open):
            self._open(message)
        elif isinstance(message, pipe.Close):
            self._opened.discard(message.id)
            self._road.close((self, message.id))
        elif isinstance(message, pipe.Watch):
            self._watch(message)
        elif isinstance(message, pipe.Unwatch):
            self._watches.discard(message.id)
            self._road.unwatch((self, message.id))
        elif isinstance(message, pipe.Listening):
            self._road.up(message.port)
        else:
            self._why = message.why
            self.say(pipe.Stop(0))

    def _ask(self, asked: pipe.Ask) -> None:
        try:
            doing = self._road.ask(asked)
        except Exception:
            self._refused(Failure(), asked.id, asked.verb)
            return
        if doing is not None:
            about = (asked.id, asked.verb)
            doing.addCallbacks(self._done, self._refused, callbackArgs=about, errbackArgs=about)

    def _done(self, answer: Any, number: int, verb: str) -> None:
        self._road.answered(verb, 200)
        self.say(pipe.Done(number, msgspec.json.encode(answer)))

    def _refused(self, failure: Failure, number: int, verb: str) -> None:
        error = failure.value
        if not isinstance(error, RealtimeError):
            _log.failure("the gRPC API failed to answer", failure)
            error = InternalError()
        self._road.answered(verb, error.status)
        refused = pipe.Refused(number, error.code, error.message, error.status, error.retry_after)
        self.say(refused)

    def _watch(self, watch: pipe.Watch) -> None:
        def told(kind: str, data: bytes) -> None:
            self.say(pipe.Happened(watch.id, kind, data))

        try:
            self._road.watch((self, watch.id), watch, told)
        except RealtimeError:
            self._refused(Failure(), watch.id, "watch")
        else:
            self._road.answered("watch", 200)
            self._watches.add(watch.id)
            # From here on it is told.
            self.say(pipe.Done(watch.id, b""))

    def _open(self, opened: pipe.Open) -> None:
        def told(changes: list[Change]) -> None:
            for change in changes:
                self.say(pipe.Happened(opened.id, "change", msgspec.json.encode(change)))

        def ended(error: RealtimeError) -> None:
            self._refused(Failure(error), opened.id, "queue")

        try:
            self._road.open((self, opened.id), opened, told, ended)
        except RealtimeError:
            self._refused(Failure(), opened.id, "queue")
        else:
            self._road.answered("queue", 200)
            self._opened.add(opened.id)
            self.say(pipe.Done(opened.id, b""))

    def childConnectionLost(self, childFD: int) -> None:
        self._deaf = self._deaf or childFD == pipe.FROM_NODE

    def processEnded(self, reason: Failure) -> None:
        for timer in (self._looking, self._forcing):
            if timer is not None and timer.active():
                timer.cancel()
        for number in self._watches:
            self._road.unwatch((self, number))
        for number in self._opened:
            self._road.close((self, number))
        ended = reason.value
        assert isinstance(ended, ProcessDone | ProcessTerminated)
        self._road.gone(self._why or str(ended))
        self._ended.callback(None)
