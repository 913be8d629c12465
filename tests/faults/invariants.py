"""Invariants of what clients received (RELIABILITY.md section 3), as checks that name each fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.clients.recorders import Recording

from .traffic import Expected


def sequence(offset: str) -> tuple[str, int, int]:
    """Epoch, generation and number of an offset as clients see it."""
    place, _, number = offset.partition(":")
    epoch, _, generation = place.rpartition(".")
    return epoch, int(generation), int(number)


def faults(recording: Recording, expected: Expected, *, live: bool = False) -> list[str]:
    """What is wrong with what one client received.

    :param live: whether a session that began anew excuses a gap only where the connection was lost; what
        the data lost without having acknowledged it may come once more after it.

    I1 no silent gap: whatever is missing is doubtful, or a session began anew since the one before it;
    I2 no inversion, within a series and over all that is logged; I3 nothing twice; nothing of others.
    """
    return list(_Walk(recording, expected, live).faults())


class _Walk:
    """One walk through a recording."""

    def __init__(self, recording: Recording, expected: Expected, live: bool) -> None:
        self._live = live
        self._recording = recording
        self._expected = expected
        self._places = {
            series: {n: place for place, n in enumerate(numbers)}
            for series, numbers in expected.numbers.items()
        }
        self._next = dict.fromkeys(expected.numbers, 0)
        self._gaps: dict[str, list[int]] = {series: [] for series in expected.numbers}
        # message -> how often the session had begun anew when it came
        self._seen: dict[tuple[str, int], int] = {}
        # how often the session had begun anew, and how often of that with a gap that it excuses
        self._resets = 0
        self._excuses = 0
        # series -> excuses when its last message came
        self._excused_at = dict.fromkeys(expected.numbers, 0)
        self._newest: tuple[str, int, int] | None = None

    def faults(self) -> Iterator[str]:
        sessions = 0
        cut = False
        for row in self._recording.rows:
            if row[0] == "d":
                cut = True
            elif row[0] == "s":
                sessions += 1
                if not row[1] and sessions > 1:
                    self._resets += 1
                    self._excuses += cut or not self._live
                    self._newest = None
                cut = False
            elif row[0] == "e":
                yield from self._event(row[2], row[3], row[4])
        for series, numbers in self._expected.numbers.items():
            # Nothing of it came since a session began anew: all of it may have been before.
            if self._excuses == self._excused_at[series]:
                self._gaps[series] += numbers[self._next[series] :]
            yield from self._lost(series)
            if series in self._expected.unordered:
                yield from self._missing(series)

    def _event(self, series: str, n: int, offset: str | None) -> Iterator[str]:
        named = f"{self._recording}: {series} {n}"
        place = self._places.get(series, {}).get(n)
        if place is None:
            yield f"{named} is not for it"
            return
        if (series, n) in self._seen:
            # What its sender repeated, and the log forgot in between, is new to the log.
            repeatable = self._live or series in self._expected.unordered
            if not repeatable or self._seen[series, n] == self._resets:
                yield f"{named} came twice"
            return
        self._seen[series, n] = self._resets
        yield from self._order(named, offset)
        if series in self._expected.unordered:
            return
        if place < self._next[series]:
            yield f"{named} came after {self._expected.numbers[series][self._next[series] - 1]}"
            return
        if self._excuses == self._excused_at[series]:
            self._gaps[series] += self._expected.numbers[series][self._next[series] : place]
        self._next[series] = place + 1
        self._excused_at[series] = self._excuses

    def _order(self, named: str, offset: str | None) -> Iterator[str]:
        """Over all rooms and users the sequence grows; another epoch begins with word of it."""
        if offset is None:
            yield f"{named} has no offset"
            return
        place = sequence(offset)
        if self._newest is not None and self._newest[0] != place[0]:
            yield f"{named} is of epoch {place[0]} after {self._newest[0]}, without a word"
        elif self._newest is not None and place <= self._newest:
            yield f"{named} has the offset {place[1:]} after {self._newest[1:]}"
        self._newest = place

    def _lost(self, series: str) -> Iterator[str]:
        """What was passed over, and did not come later either."""
        if series in self._expected.unordered:
            return
        doubtful = self._expected.doubtful[series]
        lost = [n for n in self._gaps[series] if n not in doubtful and (series, n) not in self._seen]
        if lost:
            yield f"{self._recording}: {series} lost {_short(lost)}"

    def _missing(self, series: str) -> Iterator[str]:
        """What is missing of a series without an order; a session that began anew excuses all of it."""
        wanted = set(self._expected.numbers[series]) - self._expected.doubtful[series]
        lost = sorted(n for n in wanted if (series, n) not in self._seen)
        if lost and not self._excuses:
            yield f"{self._recording}: {series} lost {_short(lost)}"


def _short(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{shown} and {len(numbers) - 8} more" if len(numbers) > 8 else shown


def parted(recordings: Iterable[Recording], wanted: Mapping[Recording, Expected]) -> list[str]:
    """Doubtful messages that some got whose session never began anew, and others not: none in between."""
    got: dict[tuple[str, int], list[bool]] = {}
    for recording in recordings:
        if any(not row[0] for row in recording.of("s")[1:]):
            continue
        for series, numbers in wanted[recording].doubtful.items():
            heard = set(recording.heard.get(series, ()))
            for n in numbers:
                got.setdefault((series, n), []).append(n in heard)
    return [
        f"{series} {n} came to {sum(told)} of {len(told)}"
        for (series, n), told in got.items()
        if 0 < sum(told) < len(told)
    ]


def misplaced(recordings: Iterable[Recording]) -> list[str]:
    """Messages that have different offsets of one epoch: order is the same for all clients."""
    offsets: dict[tuple[str, int, str], str] = {}
    found = []
    for recording in recordings:
        for _, series, n, offset in recording.of("e"):
            if offset is not None:
                place = offsets.setdefault((series, n, sequence(offset)[0]), offset)
                if place != offset:
                    found.append(f"{series} {n}: {offset} at {recording}, {place} elsewhere")
    return found


def history_faults(messages: Iterable[Mapping[str, Any]], room: str, expected: Expected) -> list[str]:
    """What is wrong with a room's history: each message once, in the order of the log."""
    found = []
    offsets = [message["offset"] for message in messages]
    if offsets != sorted(set(offsets)):
        found.append(f"history of {room}: offsets are not in order")
    held = [_marked(message) for message in messages]
    wanted = {
        (series, n)
        for series, numbers in expected.numbers.items()
        for n in numbers
        if n not in expected.doubtful[series] and _kept(series, room)
    }
    found += [f"history of {room}: {one} twice" for one, times in Counter(held).items() if times > 1]
    found += [f"history of {room}: {one} is missing" for one in sorted(wanted - set(held))[:8]]
    return found


def _kept(series: str, room: str) -> bool:
    """Whether a series is in the history of a room."""
    way, _, channel = series.partition(" ")
    return channel == f"room:{room}:message" or (not channel and way.partition(":")[2] == room)


def _marked(message: Mapping[str, Any]) -> tuple[str, int]:
    marked = message.get("data") or message
    return marked.get("c", ""), marked.get("n", -1)
