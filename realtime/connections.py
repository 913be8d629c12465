"""Connections: one client session each, the ways out of them, and the registry that finds them."""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import Attribute, Interface

from .errors import Close
from .wire.session import Frame


class IOutlet(Interface):
    """The way out of one connection."""

    transport = Attribute("str. 'websocket' or 'polling': how frames leave now.")
    buffered = Attribute("int. Bytes written and not yet taken by the transport; replay not counted.")
    owes_pong = Attribute("bool. Whether a ping was sent that the client has not answered.")

    def write(frame: Frame) -> None:
        """Send a frame, after all that was written before. Does nothing once closed."""

    def replay(frames: Iterable[Frame]) -> None:
        """Send frames at the pace of the transport; what is written later goes after them.

        They do not count as buffered.
        """

    def close(close: Close) -> None:
        """End the transport after what was written; the peer learns the reason where it can."""

    def pause_reading() -> None:
        """Take nothing more from the client until `resume_reading`."""

    def resume_reading() -> None:
        """Read on."""


class IReceiver(Interface):
    """What a transport hands the messages of one client to."""

    def received(data: str | bytes) -> None:
        """One message of the client. Never raises."""

    def closed(reason: str) -> None:
        """The transport is gone: said once, whoever ended it. `reason` is a stable word."""
