"""Complaints: lines of the log that something may give cause for again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

#: Seconds between two lines of the same text.
QUIET: Final = 10.0

_log = Logger()


class Complaints:
    """Says each thing once in `QUIET` seconds.

    :param seconds: a clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        # what -> when it may be said again, and how often it was not said
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def say(self, text: str, about: str = "", **fields: Any) -> None:
        """Log a warning, unless the same was said just now; fields may differ.

        :param text: a constant of the code, a format for the fields.
        :param about: one of a closed set, of each of which it is said.
        """
        now = self._seconds()
        due, unsaid = self._said.get((text, about), (now, 0))
        if now < due:
            self._said[text, about] = (due, unsaid + 1)
            return
        self._said[text, about] = (now + QUIET, 0)
        _log.warn(text, about=about, unsaid=unsaid, **fields)
