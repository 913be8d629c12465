"""Relay: turns each plain PUBLISH of another service into one publication, whichever nodes die.

Every node listens. One holds the lease and publishes what it hears; the others hold the same until they
hear it confirmed, which happens in the same step as the publication. Who takes the lease first makes
sure to have heard every confirmation of the holder before, and publishes what is left.

On ``P..relay`` all listeners hear ``c <era> <digest>`` (a message is dealt with), ``k <node> <word>
<number>`` (a node listens from here on; the number names the era that begins) and ``r`` (the lease is
free). On ``P..relay:<node>`` a node hears its own probes.
"""

from __future__ import annotations

import contextlib
import enum
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..complaints import Complaints
from ..errors import BrokerUnavailable
from .held import Held
from .pipeline import IPlainEvents, IRelayBus, Pipeline
from .redis_protocol import RedisError

#: Seconds for which the lease is given, and between two times that a node asks for it or renews it.
LEASE: Final = 2.0
ASK: Final = 0.5
#: Seconds without asking after which a listener of longer standing is passed over, although its connection
#: is there: if it was only slow it may hold what nobody else has heard, and publish that out of its order.
SILENT: Final = 2 * LEASE
#: Seconds after which a listening connection on which the probe did not come back is given up.
PROBE: Final = 2.0
#: Seconds without an answer after which a listening connection is given up: more than for others, since
#: what is published while nobody listens is lost, and a Redis that stood still goes on where it was.
LISTENING_TIMEOUT: Final = 10.0
#: Seconds that the end of holding waits for what is under way.
DRAIN: Final = 1.0

#: What is held at the most: messages, bytes, and periods of a lease of a node that passes them over.
HELD: Final = 50_000
HELD_BYTES: Final = 64 * 1024 * 1024
HELD_PERIODS: Final = 15

#: Why messages are lost: no room to hold them; a live holder did not confirm them; the holder's
#: connections were lost before they were published.
LOST: Final = ("overflow", "passed", "cut")

_log = Logger()


class State(enum.Enum):
    """What a node is to the relay."""

    #: It does not hear all: no listening connection, or its mark has not come back.
    AWAY = "away"
    LISTENER = "listener"
    #: It has the lease, and may not have heard all confirmations of the holder before.
    TAKING = "taking"
    HOLDER = "holder"
    #: It has the lease, hears nothing more, and publishes what it has heard.
    LEAVING = "leaving"


class IListening(Protocol):
    """A `SubscriberLink`."""

    def start(self) -> object: ...

    def stop(self) -> object: ...

    def drop(self, why: str) -> object:
        """Give the connection up, and make another."""

    def subscribe(self, channels: Sequence[bytes]) -> Deferred[None]: ...

    def psubscribe(self, patterns: Sequence[bytes]) -> Deferred[None]: ...


class IFollower(Protocol):
    """What works while its node holds the lease: the reader of the stream."""

    lag: float
    resets: dict[str, int]

    def start(self) -> object: ...

    def stop(self) -> object: ...

    def begin(self, token: str, entry: bytes) -> None:
        """The node holds the lease under this token; `entry` was handled last."""

    def end(self) -> None:
        """It holds it no more. What is under way may be done, or not: the next one will know."""


class Relay:
    """One node's part of the relay.

    :param listen: makes the listening connection, which calls `up`, `down`, `message` and `pmessage`.
    :param prefix: of the deployment's keys and channels.
    :ivar takeovers: how often this node has taken the lease.
    :ivar repeats: how many messages it then found held, to be published by it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        bus: IRelayBus,
        events: IPlainEvents,
        prefix: str,
        listen: Callable[[Relay], IListening],
        *,
        held: int = HELD,
        held_bytes: int = HELD_BYTES,
        held_periods: int = HELD_PERIODS,
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._events = events
        self._node = bus.node.encode()
        self._all = f"{prefix}relay".encode()
        self._own = self._all + b":" + self._node
        self._held = Held(count=held, size=held_bytes, ticks=int(held_periods * LEASE / ASK))
        self._pipeline = Pipeline(bus, events, self._failed)
        self._follower: IFollower | None = None
        self._listening = listen(self)
        self._asking = LoopingCall(self._tick)
        self._asking.clock = clock
        self._state = State.AWAY
        self._turn = 0
        self._word = b""
        self._era = b""
        self._number = 0
        self._token = ""
        self._entry = b""
        self._probe = 0
        self._probe_due = 0.0
        self._probe_wanted = 0
        self._probe_heard = 0
        self._waiting: Deferred[Any] | None = None
        self._leavers: list[Deferred[None]] = []
        self._again: IDelayedCall | None = None
        self._subscribed = False
        self._mark_due = 0.0
        self._doubted = 0
        self._stopping = False
        self._lost = dict.fromkeys(LOST, 0)
        self._complaints = Complaints(clock.seconds)
        self.takeovers = 0
        self.repeats = 0

    def causes(self) -> list[str]:
        """Why this node does not hear what other services publish; empty if it does."""
        return [] if self._number else ["redis_listener_unavailable"]

    # -- figures

    def lost(self, reason: str) -> int:
        """How many messages were lost for a reason of `LOST`."""
        return self._lost[reason]

    @property
    def state(self) -> State:
        return self._state

    @property
    def held(self) -> int:
        """Messages heard and not confirmed."""
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        return self._held.size

    @property
    def stream_lag(self) -> float:
        """Seconds by which the newest entry that was read is behind the newest there is."""
        return 0.0 if self._follower is None else self._follower.lag

    def stream_resets(self, what: str) -> int:
        """How often the stream was found `stream_reader.Broken`."""
        return 0 if self._follower is None else self._follower.resets[what]

    # -- life

    def follow(self, follower: IFollower) -> None:
        """Let it work whenever this node holds the lease."""
        self._follower = follower

    def start(self) -> None:
        """Begin to listen, and to ask for the lease."""
        self._listening.start()
        if self._follower is not None:
            self._follower.start()
        self._asking.start(ASK, now=False)

    def stop(self) -> Deferred[None]:
        """Publish what was heard, and give up lease and standing at once."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        if self._asking.running:
            self._asking.stop()
        if self._again is not None and self._again.active():
            self._again.cancel()
        await self._leave()
        self._turn += 1
        await maybeDeferred(self._listening.stop)
        if self._follower is not None:
            await maybeDeferred(self._follower.stop)

    # -- the listening connection

    def up(self, link: object = None) -> None:
        """The connection is there, and subscribes nothing yet."""
        self._turn += 1
        if not self._stopping:
            self._spawn(self._listen(self._turn))

    def down(self, link: object = None) -> None:
        """The connection is lost: what is published from now on is not heard."""
        self._turn += 1
        self._subscribed = False
        self._word = b""
        self._leave()

    async def _listen(self, turn: int) -> None:
        """Subscribe, and mark from where on this node hears all."""
        if self._leavers:
            await self._leave()
        try:
            await self._listening.subscribe([self._all, self._own])
            await self._listening.psubscribe(self._events.patterns)
        except (BrokerUnavailable, RedisError) as error:
            # It is lost, and comes up anew; or it is not allowed (yet).
            if isinstance(error, RedisError) and self._complaints.due("listening"):
                _log.warn("the relay may not listen: {error}", error=error.text)
            if turn == self._turn:
                self._listening.drop("could not subscribe")
            return
        if turn == self._turn and not self._stopping:
            self._subscribed = True
            self._mark()

    def _mark(self) -> None:
        self._word = secrets.token_hex(8).encode()
        self._mark_due = self._clock.seconds() + PROBE
        marking = self._bus.run("listen", self._node, self._word)
        marking.addErrback(self._not_marked, self._word)

    def _not_marked(self, failure: Failure, word: bytes) -> None:
        if word == self._word:
            self._word = b""
        self._unanswered(failure)

    def _spawn(self, work: Any) -> None:
        Deferred.fromCoroutine(work).addErrback(lambda failure: _log.failure("the relay failed", failure))

    def message(self, channel: bytes, data: bytes) -> None:
        """Something came on a channel of the relay."""
        if channel == self._own:
            self._probed(data)
        elif data.startswith(b"c "):
            self._held.confirm(data)
        elif data.startswith(b"k "):
            self._marked(data)
        elif data == b"r":
            self._ask()

    def _marked(self, data: bytes) -> None:
        parts = data.split(b" ")
        if len(parts) != 4 or not parts[3].isdigit():
            return
        _, node, word, self._era = parts
        if node == self._node and word == self._word and self._state is State.AWAY:
            self._word = b""
            self._number = int(self._era)
            self._state = State.LISTENER
            self._probe_wanted = self._probe_heard = self._probe
            self._ask()

    def pmessage(self, pattern: bytes, channel: bytes, data: bytes) -> None:
        """Another service has published."""
        if not self._number or self._events.ours(channel, data):
            # Before its mark it is the business of those who listened before.
            return
        work = self._held.add(self._era, channel, data)
        if work is None:
            self._lose("overflow", 1)
        elif self._state is State.HOLDER and not self._stopping:
            self._pipeline.put(work)

    # -- the lease

    def _tick(self) -> None:
        if self._state is not State.AWAY:
            self._ask()
        elif self._subscribed and not self._word:
            self._mark()
        elif self._subscribed and self._clock.seconds() >= self._mark_due:
            self._listening.drop("the mark did not come back")

    def _ask_in(self, seconds: float) -> None:
        if self._again is None or not self._again.active():
            self._again = self._clock.callLater(seconds, self._ask)

    def _ask(self) -> None:
        if self._waiting is not None or self._stopping:
            return
        if self._state not in (State.LISTENER, State.TAKING, State.HOLDER):
            return
        if self._probe_heard < self._probe_wanted:
            if self._clock.seconds() >= self._probe_due:
                self._doubt()
            return
        self._probe += 1
        fresh = secrets.token_hex(8)
        self._waiting = waiting = self._bus.run(
            *("lease", self._node, self._number, self._token, fresh),
            *(self._probe, int(LEASE * 1000), int(SILENT * 1000), self._held.oldest),
        )
        waiting.addBoth(self._no_more_waiting)
        waiting.addCallback(self._answered, self._turn, self._probe, fresh)
        waiting.addErrback(self._unanswered)

    def _doubt(self) -> None:
        """The probe is overdue: unless all of Redis is away, this connection is deaf."""
        if self._doubted == self._probe_wanted:
            self._listening.drop("the probe did not come back")
            return
        asking = self._bus.command("PING")
        asking.addCallbacks(self._answers, _gone, callbackArgs=(self._probe_wanted,))

    def _answers(self, pong: object, probe: int) -> None:
        self._doubted = probe

    def _no_more_waiting(self, passed: Any) -> Any:
        self._waiting = None
        return passed

    def _unanswered(self, failure: Failure) -> None:
        failure.trap(BrokerUnavailable, RedisError)
        if isinstance(failure.value, RedisError) and self._complaints.due("asking"):
            _log.warn("the relay may not ask for its lease: {error}", error=failure.value.text)

    def _answered(self, reply: list[Any], turn: int, probe: int, fresh: str) -> None:
        if turn != self._turn or self._stopping:
            return
        self._probe_wanted = probe
        self._probe_due = self._clock.seconds() + PROBE
        if reply[0] != b"HOLDER":
            self._listens(int(reply[1]) / 1000)
            return
        token = reply[1].decode()
        if token == fresh:
            self._end_holding()
            self._token = token
            self._entry = reply[2]
            self._state = State.TAKING
            self.takeovers += 1
        elif token != self._token:
            # It was given up while it was renewed.
            self._ask_in(0)
            return
        self._take()

    def _listens(self, left: float) -> None:
        """Another node holds the lease, or it is another's turn to take it."""
        if self._token:
            self._end_holding()
        if left:
            self._lose("passed", self._held.tick())
            if left < ASK:
                self._ask_in(left + 0.005)

    def _probed(self, data: bytes) -> None:
        if data.isdigit():
            self._probe_heard = max(self._probe_heard, int(data))
            self._take()

    def _take(self) -> None:
        """Begin to publish, once it is sure that all that was confirmed has been heard."""
        if self._state is State.TAKING and self._probe_heard >= self._probe_wanted:
            self._state = State.HOLDER
            self.repeats += len(self._held)
            token = self._token
            self._pipeline.begin(token, self._held)
            if self._follower is not None and self._token == token:
                self._follower.begin(token, self._entry)

    def failed(self) -> None:
        """Of something under way it is not known whether it was done: go on under a fresh token only."""
        self._failed(False)

    def _failed(self, fenced: bool) -> None:
        if self._state in (State.HOLDER, State.TAKING):
            self._end_holding()
            if not fenced:
                self._ask_in(ASK / 5)

    def _end_holding(self) -> None:
        self._token = ""
        self._state = State.LISTENER
        self._pipeline.stop()
        if self._follower is not None:
            self._follower.end()

    def _leave(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._leavers.append(done)
        if len(self._leavers) == 1:
            leaving = Deferred.fromCoroutine(self._give_up())
            leaving.addErrback(lambda failure: _log.failure("the relay can't give up", failure))
            leaving.addCallback(self._is_away)
        return done

    def _is_away(self, nothing: object) -> None:
        self._state = State.AWAY
        leavers, self._leavers = self._leavers, []
        for done in leavers:
            done.callback(None)

    async def _give_up(self) -> None:
        """Publish what was heard under the lease, if there is one, and give up lease and standing."""
        state, token = self._state, self._token
        if state is State.AWAY:
            return
        self._state = State.LEAVING
        self._number = 0
        lost = self._held.clear() if state is State.TAKING else 0
        if state is State.HOLDER:
            # It hears nothing more, but what it has heard others may not: they may listen since later.
            late = self._clock.callLater(DRAIN, self._pipeline.stop)
            lost = await self._pipeline.drained()
            if late.active():
                late.cancel()
        if self._follower is not None:
            self._follower.end()
        self._lose("cut", lost)
        self._held.clear()
        self._pipeline.stop()
        self._token = ""
        with contextlib.suppress(BrokerUnavailable, RedisError):
            await self._bus.run("release", self._node, token)

    def _lose(self, reason: str, count: int) -> None:
        if count:
            self._lost[reason] += count
            if self._complaints.due("losing"):
                _log.warn(
                    "plain messages were lost: {reason}, {count} so far",
                    reason=reason,
                    count=self._lost[reason],
                )


def _gone(failure: Failure) -> None:
    """All of Redis is away, or refuses: that says nothing of one connection."""
    failure.trap(BrokerUnavailable, RedisError)
