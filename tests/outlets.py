"""MemoryOutlet: a way out that ends in a list, for tests of what a connection is sent."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from zope.interface import implementer

from realtime.connections import IOutlet
from realtime.errors import Close
from realtime.wire.session import Frame


@implementer(IOutlet)
class MemoryOutlet:
    """An outlet whose frames stay here.

    :ivar frames: what was written.
    :ivar close_reason: why it was closed, or None.
    :ivar reading: whether the client is being read.
    """

    transport = "websocket"

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.buffered = 0
        self.behind = False
        self.owes_pong = False
        self.reading = True
        self.close_reason: Close | None = None

    def write(self, frame: Frame) -> None:
        if self.close_reason is None:
            self.frames.append(frame)

    def replay(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self.write(frame)

    def close(self, close: Close) -> None:
        if self.close_reason is None:
            self.close_reason = close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def packets(self) -> list[str]:
        """The text of each frame."""
        return [frame.text.decode() for frame in self.frames]

    def events(self) -> list[list[Any]]:
        """The events among the frames, each a list of name and arguments."""
        return [
            json.loads(text[text.index("[") :]) for text in self.packets() if text.startswith(("42", "45"))
        ]
