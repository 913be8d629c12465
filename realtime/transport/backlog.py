"""Backlog: the frames of one connection that wait for its transport."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Final

from ..wire.session import Frame

#: Places of frames that gave way, past which those are cleared out if they are the most.
_VACANT: Final = 32


def weight(frame: Frame) -> int:
    """The bytes that a frame counts for while it waits."""
    return len(frame.text) + sum(map(len, frame.attachments))


class _Mark:
    """A place among what waits, and who wants to know when it is reached."""

    __slots__ = ("reached",)

    def __init__(self, reached: Callable[[], object]) -> None:
        self.reached = reached


class _Place:
    """The place of a frame that may give way."""

    __slots__ = ("frame", "key")

    def __init__(self, frame: Frame, key: Hashable) -> None:
        self.frame: Frame | None = frame
        self.key = key


class Backlog:
    """Frames in the order in which they were written, and replays among them.

    :ivar size: bytes of the frames that wait; those of a replay are not counted, since they are
        made one by one as the transport takes them.
    """

    __slots__ = ("_items", "_places", "_vacant", "size")

    def __init__(self) -> None:
        self._items: deque[Frame | _Place | Iterator[Frame] | _Mark] = deque()
        self._places: dict[Hashable, _Place] | None = None
        self._vacant = 0
        self.size = 0

    def add(self, frame: Frame) -> None:
        """Put a frame at the end."""
        self._items.append(frame)
        self.size += weight(frame)

    def renew(self, frame: Frame, key: Hashable) -> bool:
        """Put a frame at the end in place of the one of this key that waits; False if none does."""
        if self._places is None:
            self._places = {}
        older = self._places.get(key)
        if older is not None:
            assert older.frame is not None
            self.size -= weight(older.frame)
            older.frame = None
            self._vacant += 1
            if self._vacant > _VACANT and 2 * self._vacant > len(self._items):
                self._clear_out()
        place = self._places[key] = _Place(frame, key)
        self._items.append(place)
        self.size += weight(frame)
        return older is not None

    def replay(self, frames: Iterable[Frame]) -> None:
        """Put frames at the end that are not counted."""
        self._items.append(iter(frames))

    def mark(self, reached: Callable[[], object]) -> None:
        """Call when all that waits now has been taken."""
        self._items.append(_Mark(reached))

    @property
    def replaying(self) -> bool:
        """Whether the next frame is one of a replay."""
        for item in self._items:
            if not _vacant(item):
                return not isinstance(item, Frame | _Place | _Mark)
        return False

    def take(self) -> Frame | None:
        """The next frame; None if none is left. Whatever a replay's iterator raises passes through."""
        while self._items:
            first = self._items[0]
            if isinstance(first, _Place):
                self._items.popleft()
                if first.frame is None:
                    self._vacant -= 1
                    continue
                assert self._places is not None
                del self._places[first.key]
                taken = first.frame
                self.size -= weight(taken)
                self._reach()
                return taken
            if isinstance(first, Frame):
                self._items.popleft()
                self.size -= weight(first)
                self._reach()
                return first
            if isinstance(first, _Mark):
                self._reach()
                continue
            frame = next(first, None)
            if frame is not None:
                return frame
            self._items.popleft()
        return None

    def _reach(self) -> None:
        """Tell of the places that are reached."""
        while self._items and isinstance(first := self._items[0], _Mark | _Place):
            if isinstance(first, _Mark):
                self._items.popleft()
                first.reached()
            elif first.frame is None:
                self._items.popleft()
                self._vacant -= 1
            else:
                return

    def _clear_out(self) -> None:
        self._items = deque(item for item in self._items if not _vacant(item))
        self._vacant = 0


def _vacant(item: object) -> bool:
    return isinstance(item, _Place) and item.frame is None
