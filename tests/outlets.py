"""MemoryOutlet: a way out that ends in a list, for tests of what a connection is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from zope.interface import implementer

from realtime.connections import IBatch, IOutlet
from realtime.errors import Close
from realtime.wire.session import Frame, Several


@implementer(IOutlet)
class MemoryOutlet:
    """An outlet whose frames stay here.

    :ivar frames: what was written.
    :ivar close_reason: why it was closed, or None.
    :ivar reading: whether the client is being read.
    :ivar waiting: who waits for the transport to take what was written, while `buffered` is not 0.
    """

    transport = "websocket"

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.buffered = 0
        self.behind = False
        self.owes_pong = False
        self.waiting: list[Callable[[], object]] = []
        self.reading = True
        self.close_reason: Close | None = None

    def write(self, frame: Frame) -> None:
        if self.close_reason is None:
            self.frames.append(frame)

    def attach(self, batch: IBatch) -> bool:
        return False

    def detach(self, batch: IBatch) -> None:
        """Never attached."""

    def replay(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self.write(frame)

    def when_taken(self, taken: Callable[[], object]) -> None:
        if self.buffered:
            self.waiting.append(taken)
        else:
            taken()

    def take(self) -> None:
        """The transport takes all that was written."""
        self.buffered = 0
        waiting, self.waiting = self.waiting, []
        for taken in waiting:
            taken()

    def close(self, close: Close) -> None:
        if self.close_reason is None:
            self.close_reason = close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def packets(self) -> list[str]:
        """The text of each frame; of several in one, each."""
        packets = []
        for frame in self.frames:
            text = frame.polling if isinstance(frame, Several) else frame.text
            packets += text.decode().split("\x1e")
        return packets

    def events(self) -> list[list[Any]]:
        """The events among the frames, each a list of name and arguments."""
        return [
            json.loads(text[text.index("[") :]) for text in self.packets() if text.startswith(("42", "45"))
        ]
