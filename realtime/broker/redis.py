"""RedisBroker: the bus of many nodes over one Redis (DESIGN.md sections 4, 6 and 7).

A publication is one script, which places, logs and publishes it. This node's own come back to it like
all others, over its one subscriber connection (`hearing`), so that each node hears everything in the
same order.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
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
from .hearing import READ_BYTES, Hearing, Point
from .interface import IBroker, IDelivery, IPeer, Page, Recovered
from .redis_link import Link, SubscriberLink
from .redis_protocol import RedisError
from .scripts import Scripts
from .texts import head_of, parse_all, parse_place, readable

_log = Logger()

#: How often a script is repeated after another run of the server was found.
RESUMES: Final = 3
#: Seconds between two lines of the log that say what Redis refuses.
COMPLAIN: Final = 10.0

Argument = bytes | str | int


class Links(msgspec.Struct, frozen=True):
    """The connections of one broker: for what changes, for what is read, for what is heard."""

    commands: Link
    reads: Link
    subscriber: SubscriberLink

    def __iter__(self) -> Any:
        return iter((self.commands, self.reads, self.subscriber))


@implementer(IBroker)
class RedisBroker:
    """The bus over Redis.

    :param node: this node's id.
    :param prefix: what the names of all keys and channels begin with.
    :param connect: makes the connections. It is given this broker, whose `commands_up`,
        `subscriber_up`, `subscriber_down` and `message` are to be called.
    :param sharded: whether the subscriber connection listens by sharded pub/sub.
    :param max_bytes: bytes that may be read of one channel's log.
    :ivar on_heard: called with the seconds that each probe took from its publication until it was heard.
    :ivar on_forgotten: called with how many receipts had to go for a new one.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        node: str,
        prefix: str,
        scripts: Scripts,
        connect: Callable[[RedisBroker], Links],
        sharded: bool,
        max_bytes: int,
    ) -> None:
        self.node = node
        self._clock = clock
        self._prefix = prefix.encode()
        self._scripts = scripts
        self._publish_command = "SPUBLISH" if sharded else "PUBLISH"
        self._max_bytes = max_bytes
        self._links = connect(self)
        self._hearing: Hearing | None = None
        self._peer: IPeer | None = None
        self._ready: Deferred[None] = Deferred()
        self._highest = 0
        self._refuses = False
        self._complain_next = 0.0
        self._resuming: list[Deferred[None]] | None = None
        self.on_heard: Callable[[float], object] = _unheard
        self.on_forgotten: Callable[[int], object] = _unheard

    # -- life

    def start(self, delivery: IDelivery, peer: IPeer) -> Deferred[None]:
        self._peer = peer
        self._hearing = Hearing(
            self._clock,
            self,
            self._links.subscriber,
            node=self.node,
            prefix=self._prefix,
            max_bytes=self._max_bytes,
            delivery=delivery,
            peer=peer,
            ready=self._heard,
        )
        self._hearing.start()
        for link in self._links:
            link.start()
        return self._ready

    def _heard(self) -> None:
        if not self._ready.called:
            self._ready.callback(None)

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        hearing, self._hearing, self._peer = self._hearing, None, None
        if hearing is not None:
            hearing.stop()
        for link in self._links:
            await link.stop()

    @property
    def hearing(self) -> Hearing:
        """What this node hears.

        :raises BrokerUnavailable: the broker is not started, or stopped.
        """
        if self._hearing is None:
            raise BrokerUnavailable
        return self._hearing

    def alive(self) -> bool:
        return not self.causes()

    def causes(self) -> list[str]:
        if self._hearing is None:
            return ["broker_unavailable"]
        causes = []
        if not (self._links.commands.up and self._links.reads.up):
            causes.append("redis_unavailable")
        if not self._links.subscriber.up:
            causes.append("redis_subscriber_unavailable")
        elif self._hearing.line.stopped:
            causes.append("redis_repairing")
        if self._refuses:
            causes.append("redis_refuses")
        return causes

    def figures(self) -> dict[str, Callable[[], float]]:
        """What metrics tell of the bus, by name."""

        def heard(figure: Callable[[Hearing], float]) -> Callable[[], float]:
            return lambda: 0.0 if self._hearing is None else figure(self._hearing)

        return {
            "redis_up": lambda: float(self.alive()),
            "redis_round_trip_seconds": heard(lambda hearing: hearing.round_trip),
            "redis_probe_age_seconds": heard(lambda hearing: hearing.probe_age),
            "bus_channels": heard(lambda hearing: hearing.channels),
            "bus_kept": heard(lambda hearing: hearing.line.kept),
            "bus_repairs": heard(lambda hearing: hearing.repairs),
            "bus_repaired": heard(lambda hearing: hearing.repaired),
            "bus_resets": heard(lambda hearing: hearing.resets),
        }

    def sequence(self) -> Sequence:
        return Sequence("", 0, 0) if self._hearing is None else self._hearing.line.sequence

    # -- connections

    def commands_up(self, link: Link) -> None:
        """The connection for changes is up: what happened meanwhile is not known here."""
        if self.sequence().epoch:
            # First whether this is still the data that we know: then what the store lacks was ended.
            self.resume().addCallbacks(lambda _: self._tell_returned(lost=False), _gone)

    def subscriber_up(self, link: Link) -> None:
        """The subscriber connection is up."""
        if self._hearing is not None:
            self._hearing.up()

    def subscriber_down(self, link: Link) -> None:
        """The subscriber connection is down."""
        if self._hearing is not None:
            self._hearing.down()

    def message(self, channel: bytes, text: bytes) -> None:
        """A message on one of the channels that are heard."""
        if self._hearing is not None:
            self._hearing.message(channel, text)

    # -- scripts

    def run(self, name: str, *args: Argument) -> Deferred[Any]:
        """The answer of a script that may change something."""
        return self._run(self._links.commands, name, args, RESUMES)

    def run_once(self, name: str, *args: Argument) -> Deferred[Any]:
        """Like `run`, but fails where it would have to be sent once more, and so lose its turn."""
        return self._run(self._links.commands, name, args, 0)

    def read(self, name: str, *args: Argument) -> Deferred[Any]:
        """The answer of a script that changes nothing, on a connection on which no change waits for it."""
        return self._run(self._links.reads, name, args, RESUMES)

    def _run(self, link: Link, name: str, args: tuple[Argument, ...], times: int) -> Deferred[Any]:
        # By callbacks: each publication comes through here.
        run = self._scripts.run if times else self._scripts.run_once
        return run(link, name, *args).addCallbacks(
            self._ran, self._failed, callbackArgs=(link, name, args, times), errbackArgs=(name,)
        )

    def _ran(self, answer: Any, link: Link, name: str, args: tuple[Argument, ...], times: int) -> Any:
        if link is self._links.commands:
            self._refuses = False
        if not (isinstance(answer, list) and answer and answer[0] == b"RESUME"):
            return answer

        def again(_: None) -> Deferred[Any]:
            if times <= 1:
                raise BrokerUnavailable
            return self._run(link, name, args, times - 1)

        return self.resume().addCallback(again)

    def _failed(self, failure: Failure, name: str) -> Failure:
        if isinstance(failure.value, RedisError):
            self._complain(name, failure.value)
            raise BrokerUnavailable from None
        return failure

    def _complain(self, name: str, error: RedisError) -> None:
        """Redis is there and won't do it: rights were taken away, or a script is wrong."""
        self._refuses = True
        now = self._clock.seconds()
        if now >= self._complain_next:
            self._complain_next = now + COMPLAIN
            _log.warn("Redis refuses {script}: {text}", script=name, text=error.text[:256])

    def command(self, *args: Argument) -> Deferred[Any]:
        """The answer of a plain command."""
        return self._links.commands.command(*args)

    def at_point(self, channels: Iterable[str], name: str, *args: Argument) -> Deferred[Point]:
        """See `Hearing.at_point`."""
        return Deferred.fromCoroutine(self.hearing.at_point(list(channels), name, args))

    # -- the run of the server

    def resume(self) -> Deferred[None]:
        """Go on with the data of the server that we are connected to now."""
        done: Deferred[None] = Deferred()
        if self._resuming is not None:
            self._resuming.append(done)
            return done
        self._resuming = [done]
        Deferred.fromCoroutine(self._resume()).addBoth(self._resumed)
        return done

    def _resumed(self, result: Failure | None) -> None:
        resuming, self._resuming = self._resuming, None
        for done in resuming or ():
            if isinstance(result, Failure):
                done.errback(result)
            else:
                done.callback(None)

    async def _resume(self) -> None:
        now = self.sequence()
        highest = max(self._highest, now.number)
        try:
            number, name, generation, start, parted = await self._scripts.run(
                self._links.commands, "resume", now.epoch, now.generation, highest, secrets.token_hex(8)
            )
        except RedisError as error:
            self._complain("resume", error)
            raise BrokerUnavailable from None
        epoch = name.decode()
        if now.epoch and now.epoch != epoch and parted:
            await self.hearing.finish(int(parted), int(start))
        self._set_place(Sequence(epoch, int(generation), int(start)), int(number))

    def read_left(self, *args: Argument) -> Deferred[Any]:
        """The answer of left.lua; fails where `resume` would have to be called, which waits for it."""
        return Deferred.fromCoroutine(self._read_left(args))

    async def _read_left(self, args: tuple[Argument, ...]) -> Any:
        try:
            answer = await self._scripts.run(self._links.commands, "left", *args)
        except RedisError as error:
            self._complain("left", error)
            raise BrokerUnavailable from None
        if answer == [b"RESUME"]:
            raise BrokerUnavailable
        return answer

    def _set_place(self, place: Sequence, number: int) -> None:
        """The log is at a number, perhaps of a new epoch, which is to be heard from `place` on."""
        hearing = self.hearing
        now = hearing.line.sequence
        if now.epoch == place.epoch:
            if now.generation != place.generation:
                hearing.line.sequence = Sequence(now.epoch, place.generation, now.number)
                self._tell_returned(lost=True)
            return
        self._highest = number
        hearing.begin(place)
        if now.epoch:
            self._tell_returned(lost=True)

    def _tell_returned(self, *, lost: bool) -> None:
        if self._peer is not None:
            self._peer.returned(lost)

    # -- publishing

    def publish(self, publication: Publication, key: str | None = None) -> Deferred[Published]:
        if self._hearing is None:
            return fail(BrokerUnavailable())
        return self.run("publish", *arguments(publication, key), "", "", "").addCallback(self.published)

    def published(self, answer: list[Any]) -> Published:
        """What publish.lua says of a publication it took."""
        told, identity, time, place, offset, born, epoch, generation, *forgotten = answer
        repeated = told == b"REPEATED"
        if forgotten:
            self.on_forgotten(int(forgotten[0]))
        if not place:
            return Published(identity.decode(), int(time), None, None, repeated)
        number, name = int(place), epoch.decode()
        if number > self._highest:
            self._highest = number
        position = Position(int(offset), f"{name}.{born.decode()}")
        sequence = Sequence(name, int(generation), number)
        return Published(identity.decode(), int(time), position, sequence, repeated)

    def release(self, channel: str) -> None:
        if self._hearing is not None:
            self._hearing.release(channel)

    def signal(self, name: str, data: bytes) -> Deferred[None]:
        text = b"%b\n%b" % (name.encode(), data)
        sending = self.command(self._publish_command, self._prefix + b"signals", text)
        return sending.addCallbacks(lambda _: None, self._signal_failed)

    def _signal_failed(self, failure: Failure) -> None:
        failure.trap(RedisError)
        assert isinstance(failure.value, RedisError)
        self._complain("PUBLISH", failure.value)
        raise BrokerUnavailable

    # -- reading

    def history(self, room: str, after: int | None, before: int | None, limit: int) -> Deferred[Page]:
        return Deferred.fromCoroutine(self._history(room, after, before, limit))

    async def _history(self, room: str, after: int | None, before: int | None, limit: int) -> Page:
        low, high = ("" if bound is None else bound for bound in (after, before))
        which = "newest" if after is None else "oldest"
        offset, name, _, texts = await self.read("history", room, low, high, limit, which)
        return Page(readable(texts), Position(int(offset), name.decode()))

    def remove(self, room: str, offset: int | None) -> Deferred[int]:
        return Deferred.fromCoroutine(self._remove(room, offset))

    async def _remove(self, room: str, offset: int | None) -> int:
        answer = await self.run("remove", room, "" if offset is None else offset)
        return int(answer[1])

    def missed(self, room: str, position: Position) -> Deferred[list[Publication] | None]:
        return Deferred.fromCoroutine(self._missed(room, position))

    async def _missed(self, room: str, position: Position) -> list[Publication] | None:
        answer = await self.read("history", room, position.offset, "", 1 << 30, "oldest")
        offset, name, floor, texts = answer
        if name.decode() != position.epoch or not int(floor) <= position.offset <= int(offset):
            return None
        return parse_all(texts)

    def recover(self, record: SessionRecord, since: Sequence, limit: int) -> Deferred[Recovered | None]:
        return Deferred.fromCoroutine(self._recover(record, since, limit))

    async def _recover(self, record: SessionRecord, since: Sequence, limit: int) -> Recovered | None:
        places: list[Argument] = [EVERYONE, max(since.number, record.opened.number), ""]
        for room, entry in record.rooms.items():
            places += (room, max(since.number, entry.sequence), entry.epoch)
        budget = 2 * limit + READ_BYTES
        answer = await self.read("recover", budget, since.epoch, since.generation, since.number, *places)
        if answer[0] != b"OK" or None in answer[2:]:
            return None
        if parse_place(answer[1]).generation < self.sequence().generation:
            raise BrokerUnavailable()
        texts = [text for texts in answer[2:] for text in texts]
        return recovered(record, texts, parse_place(answer[1]), limit)


def _unheard(figure: float) -> None:
    """Nobody counts."""


def arguments(publication: Publication, key: str | None) -> tuple[Argument, ...]:
    """The arguments of publish.lua that say what is to be published."""
    return (
        publication.channel,
        "" if key is None else key,
        int(publication.logged),
        int(publication.history),
        publication.id,
        publication.time,
        head_of(publication),
        publication.data,
        "1" if publication.receipt else "",
    )


def recovered(
    record: SessionRecord, texts: Iterable[bytes], until: Sequence, limit: int
) -> Recovered | None:
    """Of what the logs have, what a session was to get; None if that is over `limit`, or unreadable."""
    read = parse_all(texts)
    if read is None:
        return None
    found = [entry for entry in read if entitled(record, entry)]
    if sum(len(entry.data) for entry in found) > limit:
        return None
    found.sort(key=number_of)
    return Recovered(found, until)


def _gone(failure: Failure) -> None:
    """The connection has gone; it is made again with all that belongs to it."""
    failure.trap(BrokerUnavailable)
