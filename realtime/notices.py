"""Notices: what one connection alone is told by the service, beside its acknowledgements."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from .broker.interface import Presence
from .connections import Connection
from .errors import RealtimeError
from .events import SERVER_EVENTS, Loss
from .messages import Identity, Sequence
from .metrics import Metrics
from .newest import Newest
from .presence import status_payload
from .queues.interface import Change
from .wire.session import NOTHING

#: The event by which a service's client is told what happens in booking queues.
SERVICE_QUEUE: Final = "service:queue"


class Notices:
    """Writes and counts them.

    :param wall: seconds since the epoch.
    """

    def __init__(self, metrics: Metrics, wall: Callable[[], float]) -> None:
        self._metrics = metrics
        self._wall = wall

    def connected(
        self, connection: Connection, identity: Identity, sequence: Sequence, *, recovered: bool
    ) -> None:
        """``system:connected``, with the place from which the client recovers."""
        told = {
            "userId": identity.user,
            "connectionId": connection.id,
            "timestamp": self._now(),
            "expiresAt": int(identity.expires * 1000),
            "recovered": recovered,
        }
        self._send(connection, "system:connected", told, sequence)

    def position(self, connection: Connection, sequence: Sequence) -> None:
        """``system:position``: moves the place from which the client recovers, and says nothing."""
        self._send(connection, "system:position", {}, sequence)

    def error(self, connection: Connection, error: RealtimeError, event: str | None = None) -> None:
        """``system:error``: a refusal that no acknowledgement carries."""
        self._send(connection, "system:error", error.refusal(event))

    def refused(self, connection: Connection, errors: Iterable[RealtimeError]) -> None:
        """``system:error`` for each room of a token that did not open; counted as refusals."""
        for error in errors:
            self._metrics.refused(error.code)
            self.error(connection, error)

    def joined(self, connection: Connection, *rooms: str) -> None:
        """``room:joined``, for each room."""
        for room in rooms:
            self._send(connection, "room:joined", self._place(connection, room))

    def left(self, connection: Connection, room: str, reason: str | None = None) -> None:
        """``room:left``, with a reason if it was not the client's own wish."""
        told = self._place(connection, room)
        self._send(connection, "room:left", told if reason is None else {**told, "reason": reason})

    def expiring(self, connection: Connection, identity: Identity) -> None:
        """``auth:token_expiring``"""
        told = {"userId": identity.user, "expiresAt": int(identity.expires * 1000)}
        self._send(connection, "auth:token_expiring", told)

    def statuses(self, connection: Connection, presences: Iterable[Presence]) -> None:
        """The present status of each of these users, unless the connection mutes such events."""
        now = self._now()
        for presence in presences:
            event = "user:offline" if presence.shown == "offline" else "user:status_change"
            if event not in connection.muted_events:
                self._write(connection, event, status_payload(presence, now), None)

    def changed(self, connection: Connection, changes: Iterable[Change]) -> None:
        """``service:queue``, for each change that a worker of queues is told."""
        for change in changes:
            self._write(connection, SERVICE_QUEUE, msgspec.json.encode(change), None)

    def _place(self, connection: Connection, room: str) -> dict[str, Any]:
        return {"roomId": room, "userId": connection.user, "timestamp": self._now()}

    def _now(self) -> int:
        return int(self._wall() * 1000)

    def _send(
        self,
        connection: Connection,
        event: str,
        told: dict[str, Any],
        sequence: Sequence | None = None,
    ) -> None:
        self._write(connection, event, msgspec.json.encode(told), sequence)

    def _write(self, connection: Connection, event: str, data: bytes, sequence: Sequence | None) -> None:
        self._metrics.sent(event, connection.session.protocol, len(data))
        frame = connection.session.event(event, data, sequence)
        connection.reencode()
        if frame is not NOTHING:
            if SERVER_EVENTS.get(event) is Loss.LATEST:
                frame.newest = Newest(event, data)
            connection.outlet.write(frame)
