"""IQueues: who waits in the queue of which event, what their workers are yet to hear, and who may proceed.

Every change (somebody has joined, has left, a proceed has come to its end) has a number that grows over
all queues. It is kept for the workers until one has acknowledged it; of a user in a queue, and of a
proceed, only the newest is kept: what workers are yet to hear is never more than what there is.

A queue has one worker at a time, its leader, so that all of its changes go to one, in order. A leader that
says nothing for `LEASE` is no more: another takes its queues over and hears anew what was not acknowledged.
"""

from __future__ import annotations

from collections.abc import Sequence as Series
from typing import Final, Literal

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import Interface

from ..messages import Sequence

#: Seconds for which a worker that says nothing keeps its queues.
LEASE: Final = 6.0
#: Seconds for which is kept, for workers that are away, that somebody left or that a proceed has ended.
RETENTION: Final = 86400.0
#: Queues that a worker takes in one turn.
MAX_TAKEN: Final = 100

#: What a change says.
Kind = Literal["joined", "left", "receipt"]
#: What has become of a proceed: the client has yet to say that it has it; has said so; did not in time; has
#: left instead, or afterwards; a service has taken it away. Or nothing was sent: the user does not wait.
ProceedState = Literal["sent", "acknowledged", "expired", "declined", "removed", "not_waiting"]


class QueueLimits(msgspec.Struct, frozen=True):
    """How much there may be.

    :ivar ttl: seconds for which a place is kept for a user who is not connected.
    :ivar waiting: users that wait for one event.
    :ivar per_user: queues of one user.
    :ivar events: queues.
    """

    ttl: float = 300.0
    waiting: int = 100_000
    per_user: int = 10
    events: int = 10_000


class Joined(msgspec.Struct, frozen=True):
    """A user's place.

    :ivar number: the change's by which they came.
    :ivar known: they waited already; their place is as it was.
    :ivar position: what was last said of it.
    :ivar proceed: it is their turn: the proceed that was sent before was sent to the connection once more.
    """

    number: int
    known: bool = False
    position: int | None = None
    proceed: bool = False


class Change(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a worker hears.

    :ivar id: its number.
    :ivar time: milliseconds since the epoch: of joining, of leaving, of the proceed's end.
    :ivar connection_id: from which they joined.
    :ivar position: of one who has joined, what was last said of their place.
    :ivar reason: of one who left: ``left`` (their wish), ``removed`` (a service's), ``absent``.
    :ivar proceed_id: of a receipt, with `state`.
    """

    id: int
    kind: Kind
    event_id: str
    user_id: str
    time: int
    connection_id: str = ""
    position: int | None = None
    reason: str = ""
    proceed_id: str = ""
    state: str = ""

    @property
    def subject(self) -> str:
        """What it is of: of each only the newest change is kept."""
        return f"p {self.proceed_id}" if self.kind == "receipt" else f"u {self.user_id}"


class Waiting(msgspec.Struct, frozen=True):
    """One who waits."""

    user: str
    number: int
    since: int
    position: int | None = None


class Proceed(msgspec.Struct, frozen=True):
    """Somebody's turn.

    :ivar id: of the worker's choice: the same again changes nothing. Empty for the number of the join: then
        nobody who joins once can get two.
    :ivar token: the user's secret.
    :ivar expires: milliseconds since the epoch.
    """

    event: str
    user: str
    id: str
    token: str
    expires: int

    def __repr__(self) -> str:
        return f"Proceed({self.event!r}, {self.user!r}, {self.id!r})"


class Proceeded(msgspec.Struct, frozen=True):
    """What became of a proceed.

    :ivar repeated: it was sent before; nothing was sent now.
    :ivar since: when the user had joined, milliseconds since the epoch; 0 where nothing was sent.
    """

    id: str
    state: str
    repeated: bool = False
    since: int = 0


class Pulled(msgspec.Struct, frozen=True):
    """What a worker is to hear now.

    :ivar begun: the worker leads nothing of before: what it has not acknowledged comes anew.
    :ivar more: there is more than was asked for.
    """

    begun: bool
    changes: list[Change]
    more: bool


class IQueues(Interface):
    """Keeps what all nodes share.

    Methods return Deferreds; they fail with `BrokerUnavailable` when the bus is away. All nodes are told of
    each change.
    """

    def join(event: str, user: str, connection: str) -> Deferred[Joined]:
        """Let a user wait; whoever waits already keeps the place, and whose turn it is is told so again.

        :raises QueueFull: so many wait, or there are so many queues.
        :raises TooManyQueues: the user is in so many.
        """

    def leave(event: str, user: str, reason: str) -> Deferred[bool]:
        """Let a user wait no more, or give up their turn; whether they did wait.

        All of the user's connections are told by ``queue:left``.
        """

    def confirm(event: str, user: str, proceed: str) -> Deferred[None]:
        """The user has the proceed; its worker gets the receipt. Once more changes nothing.

        :raises UnknownProceed: there is none of that user, or it is over.
        """

    def greet(user: str, connection: str, opened: Sequence) -> Deferred[frozenset[str]]:
        """Tell a connection that has just come (back) where its user stands.

        It gets the last ``queue:position`` of each queue, in order with those that follow; and each
        ``queue:proceed`` that was not confirmed and that its session's log can't hold, being older.

        :param opened: where the session began.
        :returns: the events for which the user waits.
        """

    def touch(places: Series[tuple[str, str]]) -> Deferred[list[tuple[str, str]]]:
        """Keep the places (event, user) of users who are connected; those that are no more are answered."""

    def positions(event: str, told: Series[tuple[str, int, bytes]]) -> Deferred[list[str]]:
        """Tell users their position: each a user, the position, and the payload of ``queue:position``.

        :returns: those who do not wait; they were told nothing.
        """

    def proceed(proceed: Proceed) -> Deferred[Proceeded]:
        """Let a user proceed: ``queue:proceed``, logged on the user's channel; they wait no more.

        :raises QueueConflict: the id was used for another user.
        :raises PastTime: it would have ended already.
        """

    def members(event: str, after: int, limit: int) -> Deferred[tuple[list[Waiting], int]]:
        """Those who wait, by their numbers, which are above `after`; and how many there are in all."""

    def pull(worker: str, session: str, replay: bool, begin: str, limit: int) -> Deferred[Pulled]:
        """What a worker has not heard, at most so much.

        It renews its lease, and takes queues without leader: its share of all, so that each of several
        workers leads about as many.

        :param session: which of the worker's lives this is; a new one puts an earlier one out.
        :param replay: whether it also wants, of each queue that it takes, all who wait.
        :param begin: ``first`` for the first pull of a session, ``anew`` if what the last pull gave may not
            have come through; else empty.
        :raises WorkerReplaced: a later session of this worker is there.
        """

    def acknowledge(changes: Series[Change]) -> Deferred[None]:
        """A worker has dealt with these."""

    def release(worker: str, session: str) -> Deferred[None]:
        """A worker has gone: others may take its queues."""

    def sweep() -> Deferred[int]:
        """End what is over: places of who is absent, proceeds, what nobody acknowledged; how many."""
