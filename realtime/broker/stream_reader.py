"""StreamReader: reads what other services add to the stream ``realtime:events``, each entry once.

The node that holds the relay's lease reads; which entry was handled last is written in the step that
publishes it, so that a next reader goes on behind it.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ..complaints import Complaints
from ..errors import BrokerUnavailable, InvalidPublication
from .held import Work
from .pipeline import IPlainEvents, IRelayBus, Pipeline
from .redis_protocol import RedisError

STREAM: Final = b"realtime:events"
#: Deployment -> the entry that it handled last, and when (ms). In the slot of the stream.
READERS: Final = b"{realtime:events}:readers"

#: Entries of one reading, and in how many a reading stops ahead of what is published.
COUNT: Final = 64
AHEAD: Final = 128
#: Milliseconds for which a reading waits; its time-out is above that.
BLOCK: Final = 500
#: Seconds without an answer after which that connection is given up.
READ_TIMEOUT: Final = 2 * BLOCK / 1000
#: Seconds between two looks at the stream itself, and between two times that it is trimmed.
CHECK: Final = 1.0
TRIM: Final = 10.0
#: Seconds until a reading that failed is tried again.
PAUSE: Final = 0.2
#: Seconds without a sign of it after which a deployment's entries are kept no longer.
FORGOTTEN: Final = 86_400.0
READERS_TTL: Final = 30 * 86_400_000

_log = Logger()

#: Where a stream begins.
START: Final = (0, 0)

EntryId = tuple[int, int]


def parse_id(text: bytes) -> EntryId:
    """The id of an entry as numbers; `START` for none."""
    ms, _, number = text.partition(b"-")
    return (int(ms), int(number or 0)) if ms.isdigit() else START


def format_id(entry: EntryId) -> bytes:
    return b"%d-%d" % entry


class Broken(enum.Enum):
    """What became of a stream behind its reader's back."""

    #: Deleted and begun anew, with ids that were read already: read from its beginning.
    RESTARTED = "restarted"
    #: The same, without its newest entries, which were read: a replica has taken over.
    WENT_BACK = "went_back"
    #: Trimmed beyond what was read: those entries are lost.
    TRIMMED = "trimmed"


class Look:
    """What XINFO STREAM says of the stream."""

    __slots__ = ("added", "first", "last", "length")

    def __init__(self, reply: list[Any]) -> None:
        told = dict(zip(reply[::2], reply[1::2], strict=True))
        first = told.get(b"first-entry")
        self.first = parse_id(first[0]) if first else None
        self.last = parse_id(told[b"last-generated-id"])
        self.length: int = told[b"length"]
        # Redis 7: how many entries were ever added
        self.added: int = told.get(b"entries-added", 0)


def broken(look: Look, read: EntryId, first: EntryId | None, expected: int | None) -> Broken | None:
    """What is wrong with a stream that was read up to an entry.

    :param first: its first entry when it was looked at before.
    :param expected: how many had ever been added when that entry was, if that is known.
    """
    if look.last < read:
        return Broken.WENT_BACK if first is not None and look.first == first else Broken.RESTARTED
    if read == START:
        return None
    restarted = expected is not None and look.added < expected
    if restarted and look.first is not None and look.first <= read:
        return Broken.RESTARTED
    if expected is not None and look.last == read and look.added > expected:
        return Broken.TRIMMED
    passed = look.first > read if look.first is not None else look.last > read
    if passed and not restarted and (expected is None or look.added - look.length > expected):
        return Broken.TRIMMED
    return None


class IReadLink(Protocol):
    """A `Link` on which commands may block."""

    def start(self) -> object: ...

    def stop(self) -> object: ...

    def command(self, *args: bytes | str | int) -> Deferred[Any]: ...


class StreamReader:
    """One node's reader; works while `begin` was called and `end` was not.

    :param link: a connection of its own, to the server that has `STREAM`.
    :param deployment: the prefix of this deployment's keys; another one on the same Redis reads the
        stream for itself.
    :param failed: called when it is not known what became of an entry: `Relay.failed`.
    :ivar resets: how often the stream had begun anew, or had been trimmed too far, by `Broken`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        bus: IRelayBus,
        events: IPlainEvents,
        link: IReadLink,
        deployment: str,
        failed: Callable[[], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock: Any = clock
        self._bus = bus
        self._events = events
        self._link = link
        self._deployment = deployment.encode()
        self._failed = failed
        self._wall = wall
        self._complaints = Complaints(clock.seconds)
        self._pipeline = Pipeline(bus, events, self._ended)
        self._turn = 0
        self._read = START
        self._token = ""
        self._resting: Deferred[None] = succeed(None)
        self._first: EntryId | None = None
        self._expected: int | None = None
        self._checked = 0.0
        self._trimmed = 0.0
        self.lag = 0.0
        self.resets = {what.value: 0 for what in Broken}

    @property
    def reading(self) -> bool:
        """Whether this node is the one that reads."""
        return bool(self._token)

    # -- life

    def start(self) -> None:
        """Connect."""
        self._link.start()

    def stop(self) -> object:
        """Read no more, and disconnect."""
        self.end()
        return self._link.stop()

    def begin(self, token: str, entry: bytes) -> None:
        """Read from behind an entry, the last that was handled; publish under a token."""
        self.end()
        self._token = token
        self._read = parse_id(entry)
        self._first = self._expected = None
        self._trimmed = self._clock.seconds()
        # A first look comes before the first reading, which passes what was trimmed without a word.
        self._checked = self._trimmed - CHECK
        self._pipeline.begin(token)
        self._pipeline.entry = entry
        reading = Deferred.fromCoroutine(self._go_on(self._turn))
        reading.addErrback(lambda failure: _log.failure("the reader of the stream failed", failure))

    def end(self) -> None:
        """Read no more."""
        self._turn += 1
        self._token = ""
        self.lag = 0.0
        self._pipeline.stop()
        self._resting.cancel()

    def _ended(self, fenced: bool) -> None:
        if self._token:
            self.end()
            self._failed()

    # -- reading

    async def _go_on(self, turn: int) -> None:
        recalled = False
        while turn == self._turn:
            try:
                if not recalled:
                    await self._recall(turn)
                    recalled = True
                await self._step(turn)
            except BrokerUnavailable:
                await self._rest(turn, PAUSE)
            except RedisError as error:
                # No stream under that name, no permission.
                if self._complaints.due("reading"):
                    _log.warn("the stream may not be read: {error}", error=error.text)
                await self._rest(turn, CHECK)

    async def _rest(self, turn: int, seconds: float) -> None:
        if turn != self._turn:
            return
        self._resting = deferLater(self._clock, seconds)
        with contextlib.suppress(CancelledError):
            await self._resting

    async def _recall(self, turn: int) -> None:
        """Where the deployment's own data does not know what was handled, the stream's server may."""
        found = await self._link.command("HGET", READERS, self._deployment)
        if turn == self._turn and found:
            # The stream was trimmed up to there when that was written.
            self._first = parse_id(found.split(b" ")[0])
            if self._read == START:
                self._read = self._first

    async def _step(self, turn: int) -> None:
        now = self._clock.seconds()
        if now - self._checked >= CHECK:
            self._checked = now
            await self._check(turn)
        if turn == self._turn and now - self._trimmed >= TRIM:
            self._trimmed = now
            await self._trim()
        if turn != self._turn:
            return
        await self._pipeline.drained(AHEAD)
        if turn != self._turn:
            return
        read = format_id(self._read)
        reply = await self._link.command("XREAD", "COUNT", COUNT, "BLOCK", BLOCK, "STREAMS", STREAM, read)
        if turn == self._turn and reply:
            for entry, fields in reply[0][1]:
                self._take(entry, fields or [])

    def _take(self, entry: bytes, fields: list[bytes]) -> None:
        if not self._token:
            return
        self._read = parse_id(entry)
        if self._expected is not None:
            self._expected += 1
        told = dict(zip(fields[::2], fields[1::2], strict=False))
        work = Work(
            told.get(b"channel", b""),
            told.get(b"data", b""),
            entry=entry,
            message_id=told.get(b"messageId"),
            receipt=told.get(b"receipt") in (b"true", b"1"),
        )
        if b"channel" not in told or b"data" not in told:
            work.prepared = InvalidPublication("an entry of the stream has the fields channel and data")
        self._pipeline.put(work)

    # -- the stream itself

    async def _check(self, turn: int) -> None:
        """Whether the stream is still the one that was read."""
        read = self._read
        try:
            look = Look(await self._link.command("XINFO", "STREAM", STREAM))
        except RedisError as error:
            if "no such key" in error.text:
                # Nothing was added yet, or it was deleted: what begins anew will show by its ids.
                return
            raise
        if turn != self._turn or read != self._read:
            return
        # what was never read before may be as old as the stream
        self.lag = max(0, look.last[0] - max(read, look.first or read)[0]) / 1000
        found = broken(look, read, self._first, self._expected)
        self._first = look.first
        if found is None:
            if look.last == read:
                self._expected = look.added
            return
        self._expected = None
        # What is under way comes first: it would write its id over the new beginning.
        await self._pipeline.drained()
        if turn != self._turn:
            return
        self.resets[found.value] += 1
        _log.warn(
            "the stream was {what} behind {read}",
            what=found.value,
            read=format_id(read).decode(),
            first=format_id(look.first or START).decode(),
            last=format_id(look.last).decode(),
        )
        beginning = _beginning(found, look, read)
        reply = await self._bus.run_once("confirm", self._token, "", format_id(beginning))
        if turn == self._turn and reply[0] == b"OK":
            self._read = beginning
            self._pipeline.entry = format_id(beginning)

    async def _trim(self) -> None:
        """Say what was handled, and take off the stream what all deployments have handled."""
        now = int(self._wall() * 1000)
        handled = self._pipeline.entry or format_id(START)
        await self._link.command("HSET", READERS, self._deployment, b"%b %d" % (handled, now))
        await self._link.command("PEXPIRE", READERS, READERS_TTL)
        readers = await self._link.command("HGETALL", READERS)
        places = []
        for deployment, told in zip(readers[::2], readers[1::2], strict=True):
            entry, _, at = told.partition(b" ")
            if at.isdigit() and now - int(at) <= FORGOTTEN * 1000:
                places.append(parse_id(entry))
            else:
                await self._link.command("HDEL", READERS, deployment)
        # The entry handled last stays: while it is there, nothing behind it was trimmed.
        if places and min(places) > START:
            await self._link.command("XTRIM", STREAM, "MINID", "=", format_id(min(places)))


def _beginning(found: Broken, look: Look, read: EntryId) -> EntryId:
    """Behind which entry to go on."""
    if found is Broken.RESTARTED:
        return START
    if found is Broken.WENT_BACK or look.first is None:
        return look.last
    ms, number = look.first
    return max(read, (ms, number - 1) if number else (ms - 1, 2**63))
