"""Held: the plain messages that a node has heard and that nobody has confirmed yet, in the order heard."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

#: What an entry takes beside its channel and data, about, in bytes.
OVERHEAD: Final = 400


class Work:
    """One message on its way through the relay.

    :ivar channel: as it was published.
    :ivar data: the raw payload.
    :ivar message_id: what stood beside the payload (streams only).
    :ivar receipt: whether a receipt is wanted (streams only).
    :ivar confirmation: what all who hold it hear when it is dealt with; empty where nobody does.
    :ivar entry: the id of its entry in the stream; empty for a plain message.
    :ivar prepared: what is to be published, or why nothing is, once that is known. A repetition
        publishes the same.
    """

    __slots__ = (
        *("channel", "confirmation", "data", "entry", "message_id", "prepared", "receipt", "serial"),
        "tick",
    )

    def __init__(
        self,
        channel: bytes,
        data: bytes,
        *,
        confirmation: bytes = b"",
        entry: bytes = b"",
        message_id: bytes | None = None,
        receipt: bool = False,
    ) -> None:
        self.receipt = receipt
        self.channel = channel
        self.data = data
        self.message_id = message_id
        self.confirmation = confirmation
        self.entry = entry
        self.prepared: Any = None
        self.serial = 0
        self.tick = 0

    @property
    def size(self) -> int:
        return len(self.channel) + len(self.data) + OVERHEAD


def confirmation(era: bytes, channel: bytes, data: bytes) -> bytes:
    """What confirms a message of an era: the same for equal ones, which are confirmed in their order."""
    digest = blake2b(channel, digest_size=16)
    digest.update(b"\0")
    digest.update(data)
    return b"c %b %b" % (era, digest.hexdigest().encode())


class Held:
    """What was heard and not confirmed, bounded.

    :param count: messages held at the most.
    :param size: bytes held at the most.
    :param ticks: how many `tick` a message outlives.
    """

    def __init__(self, *, count: int, size: int, ticks: int) -> None:
        self._count = count
        self._size = size
        self._ticks = ticks
        self._now = 0
        self._serial = 0
        # An OrderedDict gives its first entry at once, also after many before it went; a dict does not.
        self._works: OrderedDict[int, Work] = OrderedDict()
        self._equal: dict[bytes, deque[Work]] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._works)

    def __iter__(self) -> Iterator[Work]:
        return iter(self._works.values())

    @property
    def oldest(self) -> bytes:
        """The era of the oldest message; empty if none is held."""
        for work in self._works.values():
            return work.confirmation.split(b" ")[1]
        return b""

    def add(self, era: bytes, channel: bytes, data: bytes) -> Work | None:
        """Hold a message; None if there is no room.

        The newest is turned away, not the oldest: that one is on its way, and its going makes room.
        """
        work = Work(channel, data)
        if len(self._works) >= self._count or self.size + work.size > self._size:
            return None
        work.confirmation = confirmation(era, channel, data)
        self._serial += 1
        work.serial, work.tick = self._serial, self._now
        self._works[work.serial] = work
        self.size += work.size
        self._equal.setdefault(work.confirmation, deque()).append(work)
        return work

    def confirm(self, said: bytes) -> Work | None:
        """Drop the oldest message that this confirms, and answer it; None if none is held."""
        equal = self._equal.get(said)
        if equal is None:
            return None
        work = equal[0]
        self._drop(work, equal)
        return work

    def tick(self) -> int:
        """Another node, alive, has had the lease for one more of its periods: drop what it passes over.

        While nobody has the lease, or the bus is away, nothing grows older.

        :returns: how many were dropped.
        """
        self._now += 1
        dropped = 0
        while self._works:
            work = next(iter(self._works.values()))
            if self._now - work.tick <= self._ticks:
                break
            self._drop(work, self._equal[work.confirmation])
            dropped += 1
        return dropped

    def clear(self) -> int:
        """Drop all; how many that were."""
        count = len(self._works)
        self._works.clear()
        self._equal.clear()
        self.size = 0
        return count

    def _drop(self, work: Work, equal: deque[Work]) -> None:
        # Equal messages come and go in one order: it is always the first of them.
        equal.popleft()
        if not equal:
            del self._equal[work.confirmation]
        del self._works[work.serial]
        self.size -= work.size
