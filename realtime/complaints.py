"""Complaints: how often the log says what may go wrong again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Seconds between two lines of the log about the same.
QUIET: Final = 10.0


class Complaints:
    """Lets each thing be said once in `QUIET` seconds.

    :param seconds: a clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._due: dict[str, float] = {}

    def due(self, about: str) -> bool:
        """Whether to say it now; then it counts as said.

        :param about: of a closed set.
        """
        now = self._seconds()
        if now < self._due.get(about, now):
            return False
        self._due[about] = now + QUIET
        return True
