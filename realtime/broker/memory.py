"""MemoryBroker: the whole bus in one process, with the semantics that the Redis one has over many.

The call is the marker: what `publish` takes has been delivered when it returns, or, if that was
within a delivery, follows it. `sequence` tells the two apart, so that a connection that enters a room
has a defined place in the order at any time.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from ..errors import BrokerUnavailable
from ..messages import (
    EVERYONE,
    Position,
    Publication,
    Published,
    Sequence,
    SessionRecord,
    entitled,
    number_of,
)
from .interface import IBroker, IDelivery, IPeer, Page, Recovered

#: Idempotency keys remembered at the most; past it the oldest are forgotten before their time.
MAX_KEYS: Final = 100_000

_log = Logger()


#: What a channel holds that has no log, or no history: one object for all. A deque takes 600 bytes,
#: and most users' channels are silent.
_NOTHING: Final[deque[Any]] = deque()


def _unkept(receipt: str) -> None:
    """Nobody keeps receipts."""


class Channel:
    """One channel's log and history.

    :ivar floor: the sequence number of the newest entry trimmed from the log.
    :ivar history_floor: the offset of the newest entry trimmed from the history.
    :ivar holders: session records that have the channel among their rooms.
    """

    __slots__ = (
        "epoch",
        "floor",
        "history",
        "history_bytes",
        "history_floor",
        "holders",
        "log",
        "log_bytes",
        "offset",
        "touched",
    )

    def __init__(self, epoch: str, floor: int, now: float) -> None:
        self.epoch = epoch
        self.offset = 0
        self.floor = floor
        self.history_floor = 0
        self.log: deque[tuple[float, Publication]] = _NOTHING
        self.log_bytes = 0
        self.history: deque[Publication] = _NOTHING
        self.history_bytes = 0
        self.holders = 0
        self.touched = now

    @property
    def position(self) -> Position:
        return Position(self.offset, self.epoch)

    @property
    def bytes(self) -> int:
        return self.log_bytes + self.history_bytes

    def append(self, publication: Publication, now: float) -> None:
        self.touched = now
        if self.log is _NOTHING:
            self.log = deque()
        self.log.append((now, publication))
        self.log_bytes += len(publication.data)
        if publication.history:
            if self.history is _NOTHING:
                self.history = deque()
            self.history.append(publication)
            self.history_bytes += len(publication.data)

    def trim_log(self, *, older_than: float, messages: int, size: int) -> None:
        log = self.log
        while log and (log[0][0] < older_than or len(log) > messages or self.log_bytes > size):
            publication = log.popleft()[1]
            self.log_bytes -= len(publication.data)
            if publication.sequence is not None:
                self.floor = publication.sequence.number
        if not log:
            self.log = _NOTHING

    def trim_history(self, *, messages: int, size: int) -> None:
        history = self.history
        while history and (len(history) > messages or self.history_bytes > size):
            publication = history.popleft()
            self.history_bytes -= len(publication.data)
            if publication.position is not None:
                self.history_floor = publication.position.offset

    def take_out(self, offset: int | None) -> int:
        """Take one entry, or all, out of the history; how many that were."""
        kept: deque[Publication] = deque()
        for publication in self.history:
            position = publication.position
            if offset is None or (position is not None and position.offset == offset):
                self.history_bytes -= len(publication.data)
            else:
                kept.append(publication)
        removed = len(self.history) - len(kept)
        self.history = kept if kept else _NOTHING
        return removed


@implementer(IBroker)
class MemoryBroker:
    """The embedded broker.

    :param retention: seconds for which the log keeps an entry.
    :param idempotency: seconds for which an idempotency key is remembered.
    :param max_messages: log entries per channel.
    :param max_bytes: payload bytes per channel in the log, and again in the history: more than
        this could not be replayed anyway.
    :param history: entries of a room's history.
    :param history_ttl: seconds for which a silent channel's history is kept.
    :param max_channels: channels kept; past it the longest silent one that nobody holds goes.
    :param max_total: payload bytes over all channels; past it the longest silent ones are emptied.
    :ivar on_receipt: called with the id of each publication that is to have a receipt.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        retention: float,
        idempotency: float,
        max_messages: int,
        max_bytes: int,
        history: int,
        history_ttl: float,
        max_channels: int,
        max_total: int,
    ) -> None:
        self._clock = clock
        self._retention = retention
        self._idempotency = idempotency
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._history = history
        self._history_ttl = history_ttl
        self._max_channels = max_channels
        self._max_total = max_total
        self._epoch = secrets.token_hex(8)
        self._number = 0
        self._delivered = 0
        self._made = 0
        self._bytes = 0
        self._channels: dict[str, Channel] = {}
        # Those that nobody holds, and those that keep anything; each with the longest silent first.
        self._free: OrderedDict[str, None] = OrderedDict()
        self._filled: OrderedDict[str, None] = OrderedDict()
        self._keys: OrderedDict[str, tuple[float, Published]] = OrderedDict()
        self._delivery: IDelivery | None = None
        self._peer: IPeer | None = None
        self._outgoing: deque[Publication] = deque()
        self._delivering = False
        self.on_receipt: Callable[[str], object] = _unkept
        # From the beginning: made later, its log would begin after what a session has to prove.
        self.hold(EVERYONE)

    # -- life

    def start(self, delivery: IDelivery, peer: IPeer) -> Deferred[None]:
        self._delivery = delivery
        self._peer = peer
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._delivery = None
        self._peer = None
        return succeed(None)

    def alive(self) -> bool:
        return self._delivery is not None

    def causes(self) -> list[str]:
        return [] if self.alive() else ["broker_unavailable"]

    def sequence(self) -> Sequence:
        return Sequence(self._epoch, 1, self._delivered)

    # -- channels

    def hold(self, name: str) -> Channel:
        """The channel, which a session record now refers to; it stays until `let_go`."""
        channel = self._channel(name)
        channel.holders += 1
        self._free.pop(name, None)
        return channel

    def let_go(self, name: str) -> None:
        """A session record no longer refers to the channel."""
        channel = self._channels.get(name)
        if channel is not None:
            channel.holders -= 1
            channel.touched = self._clock.seconds()
            if not channel.holders:
                self._free[name] = None

    def _channel(self, name: str) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            if len(self._channels) >= self._max_channels and self._free:
                self._drop(next(iter(self._free)))
            # A channel that was dropped and comes back counts from 1 again: under another epoch.
            self._made += 1
            epoch = f"{self._epoch}{self._made:x}"
            channel = self._channels[name] = Channel(epoch, self._number, self._clock.seconds())
            self._free[name] = None
        return channel

    def _drop(self, name: str) -> None:
        self._bytes -= self._channels.pop(name).bytes
        self._free.pop(name, None)
        self._filled.pop(name, None)

    def _relieve(self) -> None:
        """Empty the longest silent channels until the total is within its bound."""
        while self._bytes > self._max_total and self._filled:
            channel = self._channels[self._filled.popitem(last=False)[0]]
            self._bytes -= channel.bytes
            channel.trim_log(older_than=float("inf"), messages=0, size=0)
            channel.trim_history(messages=0, size=0)

    def sweep(self) -> None:
        """Drop what has outlived its time: log entries, silent channels, idempotency keys."""
        now = self._clock.seconds()
        for name, channel in list(self._channels.items()):
            before = channel.bytes
            channel.trim_log(
                older_than=now - self._retention, messages=self._max_messages, size=self._max_bytes
            )
            self._bytes -= before - channel.bytes
            if not channel.bytes:
                self._filled.pop(name, None)
            kept = self._history_ttl if channel.history else self._retention
            if not channel.holders and channel.touched + kept <= now:
                self._drop(name)
        self._expire_keys(now)

    def _expire_keys(self, now: float) -> None:
        keys = self._keys
        while keys and (next(iter(keys.values()))[0] <= now or len(keys) > MAX_KEYS):
            keys.popitem(last=False)

    @property
    def channels(self) -> int:
        """How many channels have a log."""
        return len(self._channels)

    @property
    def entries(self) -> int:
        """Publications kept for recovery."""
        return sum(len(channel.log) for channel in self._channels.values())

    @property
    def stored(self) -> int:
        """Payload bytes in all logs and histories."""
        return self._bytes

    # -- publishing

    def publish(self, publication: Publication, key: str | None = None) -> Deferred[Published]:
        if self._delivery is None:
            return fail(BrokerUnavailable())
        now = self._clock.seconds()
        if key is not None:
            self._expire_keys(now)
            known = self._keys.get(key)
            if known is not None:
                return succeed(msgspec.structs.replace(known[1], repeated=True))
        if publication.logged:
            publication = self._append(publication, now)
            if publication.receipt:
                self.on_receipt(publication.id)
        published = Published(publication.id, publication.time, publication.position, publication.sequence)
        if key is not None:
            self._keys[key] = (now + self._idempotency, published)
        self._outgoing.append(publication)
        if not self._delivering:
            self._deliver()
        return succeed(published)

    def _append(self, publication: Publication, now: float) -> Publication:
        name = publication.channel
        channel = self._channel(name)
        if name in self._free:
            self._free.move_to_end(name)
        self._filled[name] = None
        self._filled.move_to_end(name)
        self._number += 1
        channel.offset += 1
        publication = msgspec.structs.replace(
            publication, position=channel.position, sequence=Sequence(self._epoch, 1, self._number)
        )
        before = channel.bytes
        channel.append(publication, now)
        channel.trim_log(
            older_than=now - self._retention, messages=self._max_messages, size=self._max_bytes
        )
        if publication.history:
            channel.trim_history(messages=self._history, size=self._max_bytes)
        self._bytes += channel.bytes - before
        if self._bytes > self._max_total:
            self._relieve()
        return publication

    def _deliver(self) -> None:
        # A delivery may end a connection, whose leaving is a publication: it waits its turn here,
        # else some receivers would get the later one first.
        self._delivering = True
        try:
            while self._outgoing:
                publication = self._outgoing.popleft()
                if publication.sequence is not None:
                    self._delivered = publication.sequence.number
                if self._delivery is not None:
                    try:
                        self._delivery.deliver(publication)
                    except Exception:
                        _log.failure("delivery of {event} failed", event=publication.event)
        finally:
            self._delivering = False

    def release(self, channel: str) -> None:
        """Here all channels are local."""

    def signal(self, name: str, data: bytes) -> Deferred[None]:
        if self._peer is None:
            return fail(BrokerUnavailable())
        self._peer.signalled(name, data)
        return succeed(None)

    # -- reading

    def history(self, room: str, after: int | None, before: int | None, limit: int) -> Deferred[Page]:
        channel = self._channels.get(room)
        if channel is None:
            return succeed(Page([], Position(0, "")))
        found = [
            publication
            for publication in channel.history
            if publication.position is not None
            and (after is None or publication.position.offset > after)
            and (before is None or publication.position.offset < before)
        ]
        if after is not None:
            found = found[:limit]
        else:
            found = found[-limit:] if limit else []
        return succeed(Page(found, channel.position))

    def remove(self, room: str, offset: int | None) -> Deferred[int]:
        if self._delivery is None:
            return fail(BrokerUnavailable())
        channel = self._channels.get(room)
        if channel is None:
            return succeed(0)
        before = channel.bytes
        removed = channel.take_out(offset)
        self._bytes -= before - channel.bytes
        return succeed(removed)

    def missed(self, room: str, position: Position) -> Deferred[list[Publication] | None]:
        channel = self._channels.get(room)
        if (
            channel is None
            or channel.epoch != position.epoch
            or not channel.history_floor <= position.offset <= channel.offset
        ):
            return succeed(None)
        return succeed(
            [
                publication
                for publication in channel.history
                if publication.position is not None and publication.position.offset > position.offset
            ]
        )

    def recover(self, record: SessionRecord, since: Sequence, limit: int) -> Deferred[Recovered | None]:
        return succeed(self.replay(record, since, limit))

    def replay(self, record: SessionRecord, since: Sequence, limit: int) -> Recovered | None:
        """What `recover` answers."""
        if since.epoch != self._epoch or since.generation != 1 or since.number > self._number:
            return None
        found: list[Publication] = []
        size = 0
        for channel, start in self._places(record, since.number):
            if channel is None or channel.floor > start:
                return None
            for _, publication in reversed(channel.log):
                number = number_of(publication)
                if number <= start:
                    break
                if number <= self._delivered and entitled(record, publication):
                    found.append(publication)
                    size += len(publication.data)
                    if size > limit:
                        return None
        found.sort(key=number_of)
        return Recovered(found, self.sequence())

    def _places(self, record: SessionRecord, since: int) -> Iterator[tuple[Channel | None, int]]:
        """The channels of a session, each with the number after which it lacks; None for one lost."""
        yield self._channels.get(EVERYONE), max(since, record.opened.number)
        for room, membership in record.rooms.items():
            channel = self._channels.get(room)
            lost = channel is None or channel.epoch != membership.epoch
            yield None if lost else channel, max(since, membership.sequence)
