"""Readings: what many ask for at the same time is read once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

_V = TypeVar("_V")


class Readings(Generic[_V]):
    """Reads by name, one reading of a name at a time.

    Who asks while one is under way gets the next: what an answer tells is never older than its question.

    :param read: reads what a name stands for.
    """

    def __init__(self, read: Callable[[str], Deferred[_V]]) -> None:
        self._read = read
        # name of which a reading is under way -> who wait for the next
        self._waiting: dict[str, list[Deferred[_V]]] = {}

    def __len__(self) -> int:
        """How many readings are under way."""
        return len(self._waiting)

    def ask(self, name: str) -> Deferred[_V]:
        """What the name stands for now; fails as the reading does."""
        asked: Deferred[_V] = Deferred()
        waiting = self._waiting.get(name)
        if waiting is None:
            self._begin(name, [asked])
        else:
            waiting.append(asked)
        return asked

    def _begin(self, name: str, asking: list[Deferred[_V]]) -> None:
        self._waiting[name] = []
        maybeDeferred(self._read, name).addBoth(self._end, name, asking)

    def _end(self, result: _V | Failure, name: str, asking: list[Deferred[_V]]) -> None:
        waiting = self._waiting.pop(name)
        if waiting:
            self._begin(name, waiting)
        for asked in asking:
            # each its own: who handles one changes it
            asked.callback(Failure(result.value) if isinstance(result, Failure) else result)
