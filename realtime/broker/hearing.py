"""Hearing: the channels that a node is subscribed to, the markers it waits for, and repair after a break.

Everything comes over one subscriber connection into the `Line`. After that connection was broken, or
where the line found a gap: all channels are subscribed again, their logs are read from the place that
was delivered last, a marker of our own proves that nothing is on its way any more, and the line runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..deadlines import Deadlines
from ..errors import BrokerUnavailable
from ..messages import EVERYONE, Owner, Publication, Sequence, number_of
from ..periodic import Periodic
from .interface import IDelivery, IPeer
from .line import Line, Marker
from .redis_link import SubscriberLink
from .redis_protocol import RedisError
from .texts import parse_all, parse_place, readable

_log = Logger()

#: Seconds for which a channel is still heard after the last connection left its room.
LINGER: Final = 2.0
#: Channels whose logs one script reads, and the bytes that it may read.
READ_CHANNELS: Final = 200
READ_BYTES: Final = 4 * 1024 * 1024
#: Seconds until a repair that failed is tried again, while the connection is up.
REPAIR_PAUSE: Final = 0.2
#: Seconds between two probes, and after which one that has not come back means that we are deaf.
PROBE_INTERVAL: Final = 1.0
PROBE_TIMEOUT: Final = 2.0


class IBus(Protocol):
    """What hearing needs of the bus: its scripts.

    :ivar on_heard: to be called with the seconds that a probe took until it was heard.
    """

    on_heard: Callable[[float], object]

    def run(self, name: str, *args: bytes | str | int) -> Deferred[Any]:
        """The answer of a script that may change something."""

    def read(self, name: str, *args: bytes | str | int) -> Deferred[Any]:
        """The answer of a script that changes nothing."""

    def resume(self) -> Deferred[None]:
        """Go on with the data of the server that we are connected to now."""

    def read_left(self, *args: bytes | str | int) -> Deferred[Any]:
        """The answer of left.lua; fails where `resume` would have to be called."""


class Refused(Exception):
    """A script has refused; `reply` is what it said."""

    def __init__(self, reply: list[Any]) -> None:
        self.reply = reply
        super().__init__(repr(reply)[:200])


class Point(msgspec.Struct, frozen=True, gc=False):
    """A defined place in the order of this node, at which something happened in Redis."""

    sequence: Sequence
    payload: bytes


class _Waiting:
    """Who waits for a marker, to enter `channels`; `payload` is what the script answers, once it has."""

    __slots__ = ("arrived", "channels", "payload")

    def __init__(self, channels: list[str]) -> None:
        self.arrived: Deferred[Point] = Deferred()
        self.channels = channels
        self.payload: bytes | None = None


class Hearing:
    """What one node hears.

    :param node: its id.
    :param prefix: what the names of all channels begin with.
    :param max_bytes: bytes that may be read of one channel's log.
    :ivar round_trip: seconds that the last probe took to come back.
    :ivar repaired: publications that were read from a log because they had been missed.
    :ivar repairs: how often the line went on after a repair.
    :ivar resets: how often connections had to be told of a gap.
    """

    def __init__(
        self,
        clock: IReactorTime,
        bus: IBus,
        subscriber: SubscriberLink,
        *,
        node: str,
        prefix: bytes,
        max_bytes: int,
        delivery: IDelivery,
        peer: IPeer,
        ready: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._subscriber = subscriber
        self._node = node
        self._channel_prefix = prefix + b"channel:"
        self._inbox = prefix + b"inbox:" + node.encode()
        self._signals = prefix + b"signals"
        self._epochs = prefix + b"epochs"
        self._max_bytes = max_bytes
        self._delivery = delivery
        self._peer = peer
        self._ready = ready
        self.line = Line(delivery, arrived=self._arrived, gap=self._gap, other_epoch=self._other_epoch)
        # channel -> None once it is subscribed, else who waits for it to be
        self._heard: dict[str, list[Deferred[None]] | None] = {}
        # channel -> how many wait for a marker that lets a connection into its room
        self._held: dict[str, int] = {}
        self._lingering: Deadlines[str] = Deadlines(clock, LINGER, self._unneeded)
        self._waiting: dict[str, _Waiting] = {}
        self._tokens = 0
        self._fence_token = b""
        self._fencing: Deferred[Sequence] | None = None
        self._probe_token = b""
        # those whose marker was published before the probe
        self._probe_marked: list[str] = []
        self._probe_sent = 0.0
        self._probes = Periodic(clock, (PROBE_INTERVAL, self._probe))
        # the newest repair; an older one that is still under way gives up
        self._turn = 0
        # whether signals may have been missed, which no log has
        self._missed = False
        self._pause: Deferred[None] = succeed(None)
        self.round_trip = 0.0
        self.repaired = 0
        self.repairs = 0
        self.resets = 0

    @property
    def channels(self) -> int:
        """How many channels are heard."""
        return len(self._heard)

    def start(self) -> None:
        """Begin to look whether what is published comes back."""
        self._probes.start()

    def stop(self) -> None:
        """Hear nothing any more."""
        self._probes.stop()
        self._turn += 1
        self._pause.cancel()
        for channel in self._heard:
            self._lingering.cancel(channel)
        self.line.stop()
        self._break()
        waiting, self._waiting = self._waiting, {}
        for entry in waiting.values():
            entry.arrived.errback(BrokerUnavailable())

    # -- the connection

    def up(self) -> None:
        """The subscriber connection is up: hear all channels again, and what was missed."""
        self.line.stop()
        self.repair()

    def down(self) -> None:
        """The subscriber connection is down."""
        self._missed = True
        self._turn += 1
        self.line.stop()
        self._break()

    def _break(self) -> None:
        error = BrokerUnavailable()
        self._fenced(Failure(error))
        for channel, waiting in list(self._heard.items()):
            if waiting is not None:
                del self._heard[channel]
                for one in waiting:
                    one.errback(error)

    def message(self, channel: bytes, text: bytes) -> None:
        """A message on one of the channels that are heard."""
        if channel.startswith(self._channel_prefix):
            self.line.hear(channel[len(self._channel_prefix) :].decode(), text)
        elif channel == self._inbox:
            self._note(text)
        elif channel == self._signals:
            name, _, data = text.partition(b"\n")
            self._peer.signalled(name.decode(), data)
        elif channel == self._epochs and text.decode() != self.line.sequence.epoch:
            self._other_epoch()

    def _note(self, text: bytes) -> None:
        """What came into this node's inbox.

        ``m token place`` with a payload on the next line is a marker; ``d [user, connection, generation]``
        names a session that another node has taken up.
        """
        kind, _, rest = text.partition(b" ")
        if kind == b"m":
            first, _, payload = rest.partition(b"\n")
            token, _, place = first.partition(b" ")
            if token == self._fence_token:
                self._fenced(parse_place(place))
            elif token == self._probe_token:
                self._probed()
            else:
                self.line.mark(Marker(token.decode(), parse_place(place), payload))
        elif kind == b"d":
            self._peer.displaced(Owner(*msgspec.json.decode(rest, type=tuple[str, str, int])))

    # -- probes

    def _probe(self) -> None:
        """Publish to ourselves: a connection may be in order and yet hear nothing of what is published."""
        now = self._clock.seconds()
        if not self._subscriber.up:
            self._probe_token = b""
        elif not self._probe_token:
            self._tokens += 1
            token = f"p{self._tokens}"
            self._probe_token, self._probe_sent = token.encode(), now
            self._probe_marked = self._marked()
            self._bus.run("fence", self._node, token).addErrback(self._not_probed)
        elif now - self._probe_sent >= PROBE_TIMEOUT:
            self._probe_token = b""
            self._subscriber.drop("deaf")

    def _probed(self) -> None:
        self._probe_token = b""
        self.round_trip = self._clock.seconds() - self._probe_sent
        self._bus.on_heard(self.round_trip)
        if not self.line.stopped:
            # Their markers would have come before the probe.
            for token in self._probe_marked:
                self._find(token)

    def _not_probed(self, failure: Failure) -> None:
        """It could not be published: that says nothing of what is heard."""
        failure.trap(BrokerUnavailable, RedisError)
        self._probe_token = b""

    @property
    def probe_age(self) -> float:
        """Seconds for which a probe has been on its way; 0 if none is."""
        return self._clock.seconds() - self._probe_sent if self._probe_token else 0.0

    # -- channels

    async def hear(self, channels: Iterable[str]) -> None:
        """Hear these channels: returns once they are subscribed."""
        asked = []
        waiting: list[Deferred[None]] = []
        for channel in channels:
            if channel not in self._heard:
                self._heard[channel] = []
                asked.append(channel)
            listening = self._heard[channel]
            if listening is not None:
                done: Deferred[None] = Deferred()
                listening.append(done)
                waiting.append(done)
        if asked:
            subscribing = self._subscriber.subscribe(self._names(asked))
            subscribing.addCallbacks(
                self._subscribed, self._not_subscribed, callbackArgs=(asked,), errbackArgs=(asked,)
            )
        outcomes: list[Any] = await DeferredList(waiting, consumeErrors=True)
        for subscribed, outcome in outcomes:
            if not subscribed:
                raise outcome.value

    def _names(self, channels: Iterable[str]) -> list[bytes]:
        return [self._channel_prefix + channel.encode() for channel in channels]

    def _subscribed(self, result: object, channels: list[str]) -> None:
        for channel in channels:
            waiting = self._heard.get(channel)
            if waiting is None:
                continue
            self._heard[channel] = None
            self.line.follow(channel)
            for done in waiting:
                done.callback(None)

    def _not_subscribed(self, failure: Failure, channels: list[str]) -> None:
        for channel in channels:
            waiting = self._heard.get(channel)
            if waiting is None:
                continue
            del self._heard[channel]
            for done in waiting:
                done.errback(BrokerUnavailable())

    def release(self, channel: str) -> None:
        """No connection of this node is in the channel's room any more."""
        if self._heard.get(channel, ()) is None:
            self._lingering.start(channel)

    def _unneeded(self, channel: str) -> None:
        if self._heard.get(channel, ()) is None and not self._needed(channel):
            self._leave(channel)
            self._subscriber.unsubscribe(self._names([channel])).addErrback(_gone)

    def _needed(self, channel: str) -> bool:
        return channel in self._held or self._delivery.wants(channel)

    def _leave(self, channel: str) -> None:
        self._lingering.cancel(channel)
        del self._heard[channel]
        self.line.leave(channel)

    # -- places in the order

    async def at_point(self, channels: list[str], name: str, args: Iterable[bytes | str | int]) -> Point:
        """Run a script that marks a place in this node's order; returns when the line gets there.

        Until then, and for `LINGER` seconds after it, the channels are heard, so that whoever enters
        their rooms in that moment misses nothing. The script gets this node and a token before its
        arguments, and ends with ``mark(node, token, payload)`` and ``return {'OK', payload}``.

        :raises Refused: the script answers something else.
        :raises BrokerUnavailable: nothing can be heard now, or the script could not be run.
        """
        if not self._subscriber.up:
            raise BrokerUnavailable
        for channel in channels:
            self._held[channel] = self._held.get(channel, 0) + 1
        try:
            await self.hear(channels)
            self._tokens += 1
            token = str(self._tokens)
            waiting = self._waiting[token] = _Waiting(channels)
            answer = self._bus.run(name, self._node, token, *args)
            answer.addCallbacks(self._replied, self._failed, callbackArgs=(token,), errbackArgs=(token,))
            return await waiting.arrived
        finally:
            # The caller goes on within this call: its rooms are looked at after LINGER.
            for channel in channels:
                self._held[channel] -= 1
                if not self._held[channel]:
                    del self._held[channel]
                self.release(channel)

    def _replied(self, answer: list[Any], token: str) -> None:
        waiting = self._waiting.get(token)
        if waiting is None:
            return
        if answer[0] == b"OK":
            waiting.payload = answer[1]
        else:
            del self._waiting[token]
            waiting.arrived.errback(Refused(answer))

    def _failed(self, failure: Failure, token: str) -> None:
        waiting = self._waiting.pop(token, None)
        if waiting is not None:
            waiting.arrived.errback(failure)

    def _arrived(self, marker: Marker) -> None:
        waiting = self._waiting.pop(marker.token, None)
        if waiting is None:
            return
        if marker.sequence.epoch == self.line.sequence.epoch:
            self._enter(waiting, marker.sequence, marker.payload)
        else:
            # What was done there is lost.
            waiting.arrived.errback(BrokerUnavailable())

    def _enter(self, waiting: _Waiting, place: Sequence, payload: bytes) -> None:
        self.line.enter(waiting.channels, place.number)
        waiting.arrived.callback(Point(place, payload))

    def _marked(self) -> list[str]:
        """The tokens of markers that were published and have not come round."""
        return [token for token, entry in self._waiting.items() if entry.payload is not None]

    def _find(self, token: str) -> None:
        """A marker that was lost with a connection: what it stood for happened, and counts from here on."""
        waiting = self._waiting.pop(token, None)
        if waiting is not None and waiting.payload is not None:
            self._enter(waiting, self.line.sequence, waiting.payload)

    # -- repair

    async def finish(self, parted: int, start: int) -> None:
        """Deliver what the data has beside what was heard, before another epoch begins.

        Until a node came back that had heard more than the data has, others took messages into it. Those
        are no less promised than what comes after the new epoch's begin.

        :param parted: the number up to which the data is what was heard.
        :param start: that at which the other epoch is heard from its begin.
        :raises BrokerUnavailable: the data can't be read.
        """
        line = self.line
        line.stop()
        channels = [name for name, waiting in self._heard.items() if waiting is None]
        left: list[tuple[str, list[Publication]]] = []
        groups = [channels[at : at + READ_CHANNELS] for at in range(0, len(channels), READ_CHANNELS)]
        while groups:
            group = groups.pop()
            asked: list[str | int] = []
            for channel in group:
                asked += (channel, min(parted, line.since(channel)))
            budget = READ_BYTES if len(group) > 1 else 2 * self._max_bytes
            answer = await self._bus.read_left(budget, *asked)
            if answer[0] != b"TOO MUCH":
                left += zip(group, map(readable, answer[1:]), strict=True)
            elif len(group) > 1:
                half = len(group) // 2
                groups += [group[:half], group[half:]]
        # Only now, since the line may have got on meanwhile.
        lacking = [one for channel, found in left for one in line.lacking(channel, found, start)]
        if lacking:
            _log.info("{count} publications were taken before the new epoch began", count=len(lacking))
        self.repaired += len(lacking)
        for one in sorted(lacking, key=number_of):
            place = one.sequence
            if place is not None and place.epoch != line.sequence.epoch:
                # an epoch between: over before this node was back
                line.sequence = Sequence(place.epoch, place.generation, place.number - 1)
                self.resets += 1
                self._peer.reset(None)
            line.pass_on(one)

    def begin(self, place: Sequence) -> None:
        """The log is of another epoch: begin at a place of it, without what was before."""
        before = self.line.sequence
        self.line.stop()
        self.line.begin(place)
        if before.epoch:
            _log.warn("the log has a new epoch: what was before it may be lost; all clients are told")
            self.resets += 1
            self._peer.reset(None)
            for token in self._marked():
                # What was done in the old one is lost.
                self._waiting.pop(token).arrived.errback(BrokerUnavailable())
        self.repair()

    def _gap(self) -> None:
        _log.warn("a message is missing; the line stops until it is read from the log")
        self.repair()

    def _other_epoch(self) -> None:
        self.line.stop()
        self.repair()

    def repair(self) -> None:
        """Read what was missed, and let the line run on."""
        self._turn += 1
        self._pause.cancel()
        repairing = Deferred.fromCoroutine(self._repair(self._turn))
        repairing.addErrback(_not_repaired)

    async def _repair(self, turn: int) -> None:
        while turn == self._turn and self._subscriber.up:
            try:
                await self._repair_once(turn)
                return
            except BrokerUnavailable:
                if turn != self._turn:
                    return
                self._pause = deferLater(self._clock, REPAIR_PAUSE)
                await self._pause

    async def _repair_once(self, turn: int) -> None:
        wanted = await self._subscribe_all()
        await self._bus.resume()
        if turn != self._turn:
            return
        missed, lost = await self._read_missed(wanted, turn)
        if turn != self._turn:
            return
        # All that was marked before the fence comes before it, or was lost with the old connection.
        marked = self._marked()
        fence = await self._fence()
        if turn != self._turn:
            return
        if fence.epoch != self.line.sequence.epoch:
            # The data was lost since it was read, and another node has begun anew.
            raise BrokerUnavailable
        if self.line.overflowed:
            self.line.forget()
            raise BrokerUnavailable
        self.line.go_on(missed)
        self.repairs += 1
        self.repaired += len(missed)
        for token in marked:
            self._find(token)
        if lost:
            _log.warn("the logs of {count} channels begin after what was heard of them", count=len(lost))
            for channel in lost:
                self.line.skip(channel, fence.number)
            self.resets += 1
            self._peer.reset(frozenset(lost))
        if self._missed:
            self._missed = False
            self._peer.returned(False)
        self._ready()

    async def _subscribe_all(self) -> list[str]:
        """Hear all that is needed. (What was heard before a break is again: the link sees to that.)"""
        for channel in [name for name, waiting in self._heard.items() if waiting is None]:
            if channel != EVERYONE and not self._needed(channel):
                self._leave(channel)
                self._subscriber.unsubscribe(self._names([channel])).addErrback(_gone)
        self._heard.setdefault(EVERYONE, [])
        wanted = list(self._heard)
        known = self._subscriber.channels
        lacking = [name for name in wanted if self._channel_prefix + name.encode() not in known]
        if lacking:
            own = [self._inbox, self._signals, self._epochs]
            await self._subscriber.subscribe([*own, *self._names(lacking)])
            self._subscribed(None, lacking)
        return wanted

    async def _read_missed(self, channels: list[str], turn: int) -> tuple[list[Publication], list[str]]:
        """What the logs have after the newest place delivered; the channels whose log can't prove it."""
        missed: list[Publication] = []
        lost: list[str] = []
        groups = [channels[at : at + READ_CHANNELS] for at in range(0, len(channels), READ_CHANNELS)]
        while groups and turn == self._turn:
            group = groups.pop()
            asked = [argument for channel in group for argument in (channel, self.line.since(channel), "")]
            budget = READ_BYTES if len(group) > 1 else 2 * self._max_bytes
            answer = await self._bus.read("recover", budget, "", "", "", *asked)
            if answer[0] == b"TOO MUCH":
                if len(group) == 1:
                    lost += group
                else:
                    half = len(group) // 2
                    groups += [group[:half], group[half:]]
                continue
            place, now = parse_place(answer[1]), self.line.sequence
            if (place.epoch, place.generation) != (now.epoch, now.generation):
                # a server that is no more what it was, or not yet
                raise BrokerUnavailable
            for channel, texts in zip(group, answer[2:], strict=True):
                read = None if texts is None else parse_all(texts)
                if read is None:
                    lost.append(channel)
                else:
                    missed += read
        return missed, lost

    async def _fence(self) -> Sequence:
        """Wait until a marker of our own has come over the subscriber connection; its place."""
        self._tokens += 1
        token = f"f{self._tokens}"
        self._fence_token = token.encode()
        fenced: Deferred[Sequence] = Deferred()
        self._fencing = fenced
        answer = self._bus.run("fence", self._node, token)
        answer.addErrback(self._fenced)
        return await fenced

    def _fenced(self, result: Sequence | Failure) -> None:
        fenced, self._fencing = self._fencing, None
        self._fence_token = b""
        if fenced is not None:
            fenced.callback(result)


def _not_repaired(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.failure("a repair failed", failure)


def _gone(failure: Failure) -> None:
    """The connection has gone; it is made again with all that belongs to it."""
    failure.trap(BrokerUnavailable)
