"""The pure twin of the send loop in C."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .interface import BROKEN, Short


def send_to_all(fds: Sequence[int], data: bytes) -> list[Short]:
    """See `ISendLoop`."""
    size, write = len(data), os.write
    short = []
    for index, fd in enumerate(fds):
        try:
            taken = write(fd, data)
        except BlockingIOError:
            taken = 0
        except OSError:
            taken = BROKEN
        if taken != size:
            short.append((index, taken))
    return short
