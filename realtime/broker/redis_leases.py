"""Leases: every node says that it lives, and whoever outlives another ends what that has left.

One script per period renews a node's lease, whatever number of sessions it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import BrokerUnavailable
from .redis import RedisBroker
from .texts import parse_place

_log = Logger()

#: Seconds between two renewals of the lease, unless a third of the lease is shorter.
HEARTBEAT: Final = 2.0
#: Seconds beyond the grace after which a session is withdrawn by whoever sees it, not by its node.
MARGIN: Final = 2.0
#: Sessions that one script ends, and the rooms that they are in.
SWEEP: Final = 50
SWEEP_ROOMS: Final = 500
#: Seconds for which preferences are kept after they were last used.
PREFERENCES_TTL: Final = 90 * 86400.0
#: Seconds for which a node's sessions outlive its last sign, at the least: with no node left nobody ends
#: them.
SESSION_TTL: Final = 3600.0


class StateTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Times of the state store, in seconds.

    :ivar window: for which a suspended session can be taken up.
    :ivar grace: for which a suspended session is still present.
    :ivar lease: for which a node is taken to live after it was heard of.
    :ivar dead: for which a dead transport may go unnoticed.
    """

    window: float
    grace: float
    lease: float
    dead: float

    @property
    def period(self) -> float:
        """Between two renewals of the lease."""
        return min(HEARTBEAT, self.lease / 3)

    @property
    def session_ttl(self) -> float:
        """For which what belongs to a live session is kept without being touched."""
        return max(SESSION_TTL, 4 * (self.lease + self.window))

    def constants(self) -> dict[str, int]:
        """The constants of the state scripts, in milliseconds."""
        seconds = {
            "WINDOW": self.window,
            "GRACE": self.grace,
            "LEASE": self.lease,
            "DEAD": self.dead,
            "MARGIN": MARGIN,
            # What is overdue must still be there for the sweep to end it properly.
            "SPARE": self.session_ttl,
            "SESSION_TTL": self.session_ttl,
            "PREFERENCES_TTL": PREFERENCES_TTL,
        }
        return {name: round(value * 1000) for name, value in seconds.items()}


class Leases:
    """The lease of one node, and its part in sweeping others.

    :param returned: called when the store may not be in step with this node any more: the lease had ended,
        so that others may have swept it; or there was doubt, and all is in order again.
    :ivar swept: dead nodes of which this one has ended something.
    """

    def __init__(
        self, clock: IReactorTime, broker: RedisBroker, times: StateTimes, returned: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._broker = broker
        self._times = times
        self._returned = returned
        self._beats = LoopingCall(self._beat)
        self._beats.clock = clock
        self._kept_at = clock.seconds()
        # The epoch and generation of the log in which the lease was last renewed.
        self._known: tuple[str, int] | None = None
        self._working = False
        self._doubted = False
        self._stopped = False
        self.swept = 0

    async def start(self) -> None:
        """Take the lease, and begin to renew it."""
        self._stopped = False
        await self._beat()
        if not self._stopped:
            self._beats.start(self._times.period, now=False)

    def stop(self) -> None:
        """Renew it no more."""
        self._stopped = True
        if self._beats.running:
            self._beats.stop()

    @property
    def running(self) -> bool:
        """Whether it is being renewed."""
        return bool(self._beats.running)

    def doubt(self) -> None:
        """A change failed, and may have been made or not.

        No connection need break for it: Redis may refuse, or lack a replica, for a time.
        """
        self._doubted = True

    def trust(self) -> None:
        """The store is being put in step."""
        self._doubted = False

    async def _beat(self) -> None:
        try:
            overdue, dead = await self._renew()
        except BrokerUnavailable:
            # Readiness says so; the next beat comes at its time.
            return
        except Exception:
            _log.failure("a heartbeat failed")
            return
        if not self._working:
            # However much there is to end: the lease has to be renewed meanwhile.
            self._working = True
            working = Deferred.fromCoroutine(self._work(overdue, dead))
            working.addErrback(_failed).addBoth(self._worked)

    def _worked(self, result: object) -> None:
        self._working = False

    async def beat(self) -> None:
        """Renew the lease, and end what dead nodes and sessions past their time have left.

        :raises BrokerUnavailable: the store is away.
        """
        await self._work(*await self._renew())

    async def _renew(self) -> tuple[bool, list[bytes]]:
        """Renew the lease. Returns whether sessions are overdue, and which nodes are dead."""
        swept, place, overdue, *dead = await self._broker.run("heartbeat", self._broker.node)
        now = parse_place(place)
        log = (now.epoch, now.generation)
        known, self._known = self._known, log
        # Of another epoch or generation the broker tells by itself.
        doubted = self._doubted and self._broker.alive()
        if known == log and (doubted or swept == b"SWEPT"):
            self._doubted = False
            self._returned()
        return bool(overdue), dead

    async def _work(self, overdue: bool, dead: list[bytes]) -> None:
        # First what is alive: whatever may be wrong with the rest.
        if self._clock.seconds() - self._kept_at >= self._times.session_ttl / 4:
            await self.keep()
            self._kept_at = self._clock.seconds()
        if overdue:
            await self.end_overdue()
        for node in dead:
            await self._sweep(node)

    async def end_overdue(self) -> None:
        """Withdraw sessions whose grace is over, and end those that were not taken up in time."""
        more = b"1"
        while more:
            _, more = await self._broker.run("sweep_waiting", SWEEP, SWEEP_ROOMS)

    async def _sweep(self, node: bytes) -> None:
        self.swept += 1
        more = b"1"
        while more:
            _, more = await self._broker.run("sweep_node", node, SWEEP, SWEEP_ROOMS)

    async def keep(self) -> None:
        """Let what belongs to this node's live sessions not expire."""
        cursor = b"0"
        while True:
            _, cursor = await self._broker.run("keep", self._broker.node, cursor)
            if cursor == b"0":
                return

    async def give_up(self) -> None:
        """Give the lease back, at the end. With sessions left it is for others to end them.

        :raises BrokerUnavailable: the store is away.
        """
        await self._broker.run("retire", self._broker.node)


def _failed(failure: Failure) -> None:
    """What was not ended is ended at a later beat."""
    if not failure.check(BrokerUnavailable):
        _log.failure("what others have left could not be ended", failure)
