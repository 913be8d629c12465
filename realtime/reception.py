"""Reception: strangers are served in a part of each turn of the reactor; the rest is for who is known.

A handshake costs the processor as much as a score of messages. Served as they come, a hundred of them in
one turn hold up everybody else for a hundred times that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

#: Seconds of a turn, from when the first stranger is served in it, in which others may be; where many wait
#: and the turn before took long, that part of it, but no more than so many seconds.
PER_TURN: Final = 0.00025
SHARE: Final = 0.25
MOST: Final = 0.02

_log = Logger()


class Reception:
    """Whoever is not known asks whether there is time (`ready`), and waits if there is none.

    :ivar time: seconds that there are for strangers in this turn.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._began: float | None = None
        self.time = PER_TURN

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def ready(self) -> bool:
        """Whether there is time left in this turn, and nobody waits for it."""
        now = self._clock.seconds()
        if self._began is None:
            self._began, self.time = now, PER_TURN
            self._clock.callLater(0, self._turn)
        return not self._waiting and now - self._began < self.time

    def wait(self, act: Callable[[], None]) -> None:
        """Call this when there is time, after what others wait for."""
        self._waiting.append(act)

    async def enter(self) -> None:
        """Go on when there is time."""
        if not self.ready():
            turn: Deferred[None] = Deferred()
            self._waiting.append(partial(turn.callback, None))
            await turn

    def _turn(self) -> None:
        """A turn begins: at least one of those who wait is served in it."""
        before, self._began = self._began, None
        if not self._waiting:
            return
        began = self._began = self._clock.seconds()
        # A node that is busy with others would let hardly anybody in else.
        took = 0.0 if before is None else began - before
        self.time = min(max(PER_TURN, SHARE * took), MOST)
        self._clock.callLater(0, self._turn)
        for _ in range(len(self._waiting)):
            try:
                self._waiting.popleft()()
            except Exception:
                _log.failure("a stranger could not be served")
            if self._clock.seconds() - began >= self.time:
                break
