"""Line: all that a node hears of its channels, delivered in one order without a gap.

What comes over one unbroken connection is in order and whole. After a break, or where the offsets of
a channel show a gap, the line stops: what is heard is kept back until what was missed has been read
from the logs, and both are delivered as one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from twisted.logger import Logger

from ..messages import Publication, Sequence, number_of
from .interface import IDelivery
from .texts import parse

_log = Logger()

#: Messages, and bytes, that are kept back while the line is stopped; past either all that is logged
#: is read from the logs once more.
MAX_KEPT: Final = 20_000
MAX_KEPT_BYTES: Final = 64 * 1024 * 1024


class Marker:
    """A marker that came round: the place at which it was published, and what its script says."""

    __slots__ = ("payload", "sequence", "token")

    def __init__(self, token: str, sequence: Sequence, payload: bytes) -> None:
        self.token = token
        self.sequence = sequence
        self.payload = payload


Item = Publication | Marker


class _Place:
    """Where a channel stands: what was last delivered of it, or before what it was heard.

    :ivar offset: of the last one; 0 if there was none yet.
    :ivar epoch: of the channel, then.
    :ivar number: of the last one; or the newest that was delivered when the channel began to be heard.
    """

    __slots__ = ("epoch", "number", "offset")

    def __init__(self, number: int) -> None:
        self.offset = 0
        self.epoch = ""
        self.number = number

    def has(self, publication: Publication) -> bool:
        """Whether a logged publication was delivered already."""
        return number_of(publication) <= self.number


class Line:
    """The order of one node.

    :param delivery: gets the publications.
    :param arrived: called with each marker, at its place in the order.
    :param gap: called once when the line has stopped for a gap.
    :param other_epoch: called when something of another epoch is heard; the line has stopped.
    :ivar sequence: the newest place that was delivered.
    :ivar stopped: whether what is heard is kept back.
    """

    def __init__(
        self,
        delivery: IDelivery,
        *,
        arrived: Callable[[Marker], None],
        gap: Callable[[], None],
        other_epoch: Callable[[], None],
    ) -> None:
        self.sequence = Sequence("", 0, 0)
        self.stopped = True
        self.overflowed = False
        self._delivery = delivery
        self._arrived = arrived
        self._gap = gap
        self._other_epoch = other_epoch
        self._kept: deque[Item] = deque()
        self._kept_bytes = 0
        self._places: dict[str, _Place] = {}

    @property
    def kept(self) -> int:
        """How many messages are kept back."""
        return len(self._kept)

    # -- hearing

    def hear(self, channel: str, text: bytes) -> None:
        """A message of a room's channel. Never raises."""
        try:
            publication = parse(text)
        except ValueError:
            _log.warn("a message that can't be read on channel {channel}", channel=channel)
            return
        if self.stopped:
            self._keep(publication, len(text))
        elif self._follows(channel, publication):
            self._deliver(channel, publication)
        else:
            self._keep(publication, len(text))

    def mark(self, marker: Marker) -> None:
        """A marker of this node has come round."""
        if self.stopped:
            self._keep(marker, len(marker.payload))
        elif marker.sequence.epoch != self.sequence.epoch:
            self.stop()
            self._keep(marker, len(marker.payload))
            self._other_epoch()
        else:
            self._pass(marker)

    def _follows(self, channel: str, publication: Publication) -> bool:
        """Whether a publication may be delivered now; else the line has stopped for it."""
        sequence, position = publication.sequence, publication.position
        if sequence is None or position is None:
            return True
        if sequence.epoch != self.sequence.epoch:
            self.stop()
            self._other_epoch()
            return False
        last = self._places.get(channel)
        if last is None or position.offset <= last.offset + 1 or last.epoch != position.epoch:
            return True
        self.stop()
        self._gap()
        return False

    def _keep(self, item: Item, size: int) -> None:
        if self.overflowed:
            if isinstance(item, Marker):
                self._kept.append(item)
            return
        self._kept.append(item)
        self._kept_bytes += size
        if len(self._kept) > MAX_KEPT or self._kept_bytes > MAX_KEPT_BYTES:
            # What is logged will be read again; markers are few, and each stands for one who waits.
            self.overflowed = True
            self._kept = deque(item for item in self._kept if isinstance(item, Marker))
            self._kept_bytes = 0

    # -- delivering

    def _deliver(self, channel: str, publication: Publication) -> None:
        sequence, position = publication.sequence, publication.position
        if sequence is not None and position is not None:
            place = self._places.get(channel)
            if place is not None:
                if place.has(publication):
                    return
                place.offset, place.epoch, place.number = position.offset, position.epoch, sequence.number
            if sequence.number > self.sequence.number:
                self.sequence = sequence
        self.pass_on(publication)

    def _deliver_late(self, publication: Publication) -> None:
        """One that was kept back, or read of a log."""
        self._deliver(publication.channel, publication)

    def _pass(self, marker: Marker) -> None:
        sequence = marker.sequence
        if sequence.epoch == self.sequence.epoch and sequence.number > self.sequence.number:
            self.sequence = sequence
        try:
            self._arrived(marker)
        except Exception:
            _log.failure("what waited for a marker failed")

    # -- channels

    def follow(self, channel: str) -> None:
        """Watch the offsets of a channel that is heard from now on."""
        self._places.setdefault(channel, _Place(self.sequence.number))

    def leave(self, channel: str) -> None:
        """The channel is heard no more."""
        self._places.pop(channel, None)

    def enter(self, channels: Iterable[str], number: int) -> None:
        """Somebody enters channels at a number, at which all that they had before it has been heard.

        Nobody gets what they had before they were heard. (Where something was delivered of a channel, a
        gap behind that will still show.)
        """
        for channel in channels:
            place = self._places.get(channel)
            if place is not None and not place.offset and number > place.number:
                place.number = number

    def skip(self, channel: str, number: int) -> None:
        """What a channel had up to a number, and was not delivered, is lost."""
        place = self._places.get(channel)
        if place is not None:
            self._places[channel] = _Place(max(place.number, number))

    def since(self, channel: str) -> int:
        """The number after which nothing of a channel has been delivered."""
        place = self._places.get(channel)
        return self.sequence.number if place is None else place.number

    # -- stopping and going on

    def stop(self) -> None:
        """Keep back what is heard from now on."""
        self.stopped = True

    def forget(self) -> None:
        """Drop what is kept back, but for markers: it will be read from the logs."""
        self._kept = deque(item for item in self._kept if isinstance(item, Marker))
        self._kept_bytes = 0
        self.overflowed = False

    def go_on(self, missed: Iterable[Publication]) -> None:
        """Deliver what was read of the logs together with what was kept back, and run on."""
        ordered = deque(sorted(missed, key=number_of))
        self.stopped = False
        while self._kept and not self.stopped:
            item = self._kept.popleft()
            number = item.sequence.number if isinstance(item, Marker) else number_of(item)
            # What is not logged has no number, and keeps its place behind what came before it.
            while ordered and number_of(ordered[0]) <= number:
                self._deliver_late(ordered.popleft())
            if isinstance(item, Marker):
                self._pass(item)
            elif item.sequence is None or item.sequence.epoch == self.sequence.epoch:
                # Else it is left over from before the log was lost, which all have been told of.
                self._deliver_late(item)
        for publication in ordered:
            self._deliver_late(publication)
        self._kept_bytes = 0
        self.overflowed = False

    def lacking(self, channel: str, found: Iterable[Publication], start: int) -> list[Publication]:
        """Of what a channel's log has up to `start`, what was not delivered."""
        since, heard = self.since(channel), self.sequence

        def lacks(sequence: Sequence) -> bool:
            if sequence.epoch == heard.epoch and sequence.generation <= heard.generation:
                return since < sequence.number <= start
            return sequence.number <= start

        return [one for one in found if one.sequence is not None and lacks(one.sequence)]

    def pass_on(self, publication: Publication) -> None:
        """Deliver one that was found beside all that was heard."""
        try:
            self._delivery.deliver(publication)
        except Exception:
            _log.failure("delivery of {event} failed", event=publication.event)

    def begin(self, sequence: Sequence) -> None:
        """Begin at a place, without what was before it; what was heard after it is still kept back."""
        self.sequence = sequence
        kept = [item for item in self._kept if isinstance(item, Marker) or _is_after(item, sequence)]
        self._kept = deque(kept)
        self._places = {channel: _Place(sequence.number) for channel in self._places}


def _is_after(publication: Publication, place: Sequence) -> bool:
    sequence = publication.sequence
    return sequence is not None and sequence.epoch == place.epoch and sequence.number > place.number
