"""IReceiptStore: what all nodes say of who got a publication whose publisher wants to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import Interface

State = Literal["targeted", "written", "acknowledged", "expired"]

#: The states that a connection goes through, in their order; `Mark.rank` is the place of one.
RANKS: Final[tuple[State, ...]] = ("targeted", "written", "acknowledged")

#: The name of the signal that says which receipts have changed, and for how many seconds after
#: `IReceiptStore.watch` nodes send it.
CHANGED: Final = "receipts"
WATCHED: Final = 30.0

#: Receipts that one question may be for, and that one `note` may speak of.
MANY: Final = 500


class Mark(msgspec.Struct, frozen=True, gc=False):
    """How far a publication has come with one connection."""

    connection: str
    user: str
    rank: int


class Marks(msgspec.Struct, frozen=True, gc=False):
    """What a node has to say of one receipt.

    :ivar marks: connections whose rank has become higher.
    :ivar beyond: how many connections of this node that have no mark of their own have reached each
        rank, in all and not only since the last time; None for no change.
    """

    id: str
    marks: tuple[Mark, ...]
    beyond: tuple[int, int, int] | None = None


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """Who got a publication, as far as that is known.

    :ivar made: milliseconds since the epoch, when it was published.
    :ivar until: milliseconds since the epoch, up to which acknowledgements are awaited.
    :ivar counts: how many connections have reached each rank; each includes those that went further.
    :ivar marks: the connections that are told of by name.
    """

    id: str
    made: int
    until: int
    counts: tuple[int, int, int]
    marks: tuple[Mark, ...]

    def over(self, now: float) -> bool:
        """Whether no acknowledgement is awaited any more; `now` is seconds since the epoch."""
        return self.until <= now * 1000


class IReceiptStore(Interface):
    """Keeps receipts. `IBroker.publish` opens one with each publication that has `Publication.receipt`.

    A receipt is kept for a time; past a number of them the oldest goes.
    """

    def note(marks: Sequence[Marks]) -> Deferred[frozenset[str]]:
        """Keep what this node says of at most `MANY` receipts. Saying it twice changes nothing.

        :returns: those that are kept no more; fails with `BrokerUnavailable`.
        """

    def read(ids: Sequence[str]) -> Deferred[list[Receipt | None]]:
        """At most `MANY` receipts; None for one that is not kept."""

    def watch() -> Deferred[None]:
        """Let all nodes be told of changes by the signal `CHANGED`, for `WATCHED` seconds from now.

        Its data are ids, with spaces between.
        """


def counted(marks: Sequence[Mark], beyond: Sequence[Sequence[int]]) -> tuple[int, int, int]:
    """The counts of a receipt: those of its marks, and what each node says of the rest."""
    ranks = [mark.rank for mark in marks]
    first, second, third = (
        sum(rank >= least for rank in ranks) + sum(counts[least] for counts in beyond) for least in range(3)
    )
    return first, second, third
