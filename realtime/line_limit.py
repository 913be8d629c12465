"""Line limit: keeps what clients or load can provoke from filling the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

_log = Logger()

#: Seconds in which so many lines are written, at most.
WINDOW: Final = 10.0


class LineLimit:
    """Lets so many lines of one kind be written in `WINDOW`; the next one says how many were left out.

    :param kind: what the lines are, in a word or two.
    :param lines: how many.
    :param seconds: a monotonic clock.
    """

    def __init__(self, kind: str, lines: int, seconds: Callable[[], float]) -> None:
        self._kind = kind
        self._lines = lines
        self._seconds = seconds
        self._began = -WINDOW
        self._written = 0
        self._left_out = 0

    def take(self) -> bool:
        """Whether one more line may be written; then it counts as written."""
        now = self._seconds()
        if now - self._began >= WINDOW:
            if self._left_out:
                _log.warn("{count} lines of {of} were left out", count=self._left_out, of=self._kind)
            self._began, self._written, self._left_out = now, 0, 0
        if self._written >= self._lines:
            self._left_out += 1
            return False
        self._written += 1
        return True
