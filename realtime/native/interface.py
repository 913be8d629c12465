"""What a send loop is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

#: Which socket did not take all, and how many bytes it took.
Short: TypeAlias = tuple[int, int]

#: Stands for the bytes of a socket that takes nothing any more.
BROKEN: Final = -1


class ISendLoop(Protocol):
    """Sends the same bytes to many sockets."""

    def __call__(self, fds: Sequence[int], data: bytes) -> list[Short]:
        """Send `data` once to each of these sockets, which don't block.

        :returns: those that did not take all of it, in order; none where nothing fits now, `BROKEN` where
            nothing ever will.
        """
