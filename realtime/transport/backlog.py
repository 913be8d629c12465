"""Backlog: the frames of one connection that wait for its transport."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ..wire.session import Frame


def weight(frame: Frame) -> int:
    """The bytes that a frame counts for while it waits."""
    return len(frame.text) + sum(map(len, frame.attachments))


class _Mark:
    """A place among what waits, and who wants to know when it is reached."""

    __slots__ = ("reached",)

    def __init__(self, reached: Callable[[], object]) -> None:
        self.reached = reached


class Backlog:
    """Frames in the order in which they were written, and replays among them.

    :ivar size: bytes of the frames that wait; those of a replay are not counted, since they are
        made one by one as the transport takes them.
    """

    __slots__ = ("_items", "size")

    def __init__(self) -> None:
        self._items: deque[Frame | Iterator[Frame] | _Mark] = deque()
        self.size = 0

    def add(self, frame: Frame) -> None:
        """Put a frame at the end."""
        self._items.append(frame)
        self.size += weight(frame)

    def replay(self, frames: Iterable[Frame]) -> None:
        """Put frames at the end that are not counted."""
        self._items.append(iter(frames))

    def mark(self, reached: Callable[[], object]) -> None:
        """Call when all that waits now has been taken."""
        self._items.append(_Mark(reached))

    @property
    def replaying(self) -> bool:
        """Whether the next frame is one of a replay."""
        return bool(self._items) and not isinstance(self._items[0], Frame | _Mark)

    def take(self) -> Frame | None:
        """The next frame; None if none is left. Whatever a replay's iterator raises passes through."""
        while self._items:
            first = self._items[0]
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
        while self._items and isinstance(mark := self._items[0], _Mark):
            self._items.popleft()
            mark.reached()
