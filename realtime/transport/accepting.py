"""Accepting: a port takes few connections in a turn, and none while many strangers wait to be served.

Twisted takes a hundred and more at once, which holds up everybody who is here. What is not taken waits in
the kernel; where that is full, too, clients' systems try again.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.tcp import Port

from ..reception import Reception

#: Connections taken in one turn of the reactor, at least; and the seconds for which there is one more.
PER_TURN: Final = 2
TAKES: Final = 0.0001

#: Strangers that wait to be served, past which no more connections are taken.
CROWD: Final = 1024

#: Seconds until they are counted again.
PAUSE: Final = 0.02


def by_turns(port: Any, reception: Reception, clock: IReactorTime) -> None:
    """Let this port take its connections so, if it is one of the kernel's."""
    if not isinstance(port, Port):
        return
    accept = port.doRead

    def accept_some() -> None:
        if len(reception) >= CROWD:
            port.pauseProducing()
            clock.callLater(PAUSE, port.resumeProducing)
            return
        # Twisted sets it anew after each time.
        port.numberAccepts = max(PER_TURN, int(reception.time / TAKES))
        accept()

    port.doRead = accept_some  # type: ignore[method-assign]
