"""Turnstile: lets so many in at a time; the others wait for their turn."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred, succeed


class Turnstile:
    """Like Twisted's `DeferredSemaphore`, but who leaves at once does not nest in who left before.

    A thousand that wait, each of which is refused as soon as it is let in, would otherwise be a thousand
    calls within one another.

    :param places: how many may be inside.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[Deferred[None]] = deque()
        self._letting_in = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self) -> Deferred[None]:
        """Fires when there is a place; it is taken until `leave`."""
        if self._free and not self._waiting:
            self._free -= 1
            return succeed(None)
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        return turn

    def leave(self) -> None:
        """Give a place back."""
        self._free += 1
        if self._letting_in:
            # Who was let in has left already: the loop below goes on.
            return
        self._letting_in = True
        try:
            while self._free and self._waiting:
                self._free -= 1
                self._waiting.popleft().callback(None)
        finally:
            self._letting_in = False
