"""Census: what a node tells operators of itself, its connections and its users (see `inquiries`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from heapq import nsmallest
from typing import Any, Final

from .connections import Connection, Connections
from .inquiries import Arguments
from .watches import Watches

#: Rooms of a connection that are named.
MAX_ROOMS: Final = 1000


class Census:
    """This node's answers.

    :param report: see `Health.report`.
    :param figures: see `figures.figures`.
    :param seconds: the clock of `Connection.active`.
    """

    def __init__(
        self,
        *,
        report: Callable[[], dict[str, Any]],
        figures: Callable[[], dict[str, Any]],
        connections: Connections,
        watches: Watches,
        seconds: Callable[[], float],
    ) -> None:
        self._report = report
        self._measured = figures
        self._connections = connections
        self._watches = watches
        self._seconds = seconds

    def answers(self) -> Mapping[str, Callable[[Arguments], object]]:
        """By what is asked."""
        return {
            "figures": self._figures,
            "connections": self._page,
            "users": self._users,
            "connection": self._connection,
            "events": self._events,
        }

    def _figures(self, arguments: Arguments) -> object:
        return {**self._report(), **self._measured()}

    def _page(self, arguments: Arguments) -> object:
        limit, after = int(arguments["limit"]), arguments.get("after", "")
        wanted = [one for one in self._chosen(arguments) if one.id > after]
        page = nsmallest(limit + 1, wanted, key=lambda one: one.id)
        return {
            "connections": [self._summary(one) for one in page[:limit]],
            "total": len(wanted),
            "next": page[limit - 1].id if len(page) > limit else None,
        }

    def _chosen(self, arguments: Arguments) -> Iterable[Connection]:
        user, room = arguments.get("user"), arguments.get("room")
        protocol, transport = arguments.get("protocol"), arguments.get("transport")
        chosen: Iterable[Connection] = (
            self._connections.of_user(user) if user is not None else self._connections
        )
        return (
            one
            for one in chosen
            if (room is None or room in one.rooms)
            and (protocol is None or one.session.protocol == protocol)
            and (transport is None or one.outlet.transport == transport)
        )

    def _users(self, arguments: Arguments) -> object:
        limit, after = int(arguments["limit"]), arguments.get("after", "")
        counts = Counter(one.user for one in self._connections if one.user > after)
        page = nsmallest(limit + 1, counts)
        return {
            "users": [{"userId": user, "connections": counts[user]} for user in page[:limit]],
            "total": len(counts),
            "next": page[limit - 1] if len(page) > limit else None,
        }

    def _summary(self, connection: Connection) -> dict[str, object]:
        return {
            "connectionId": connection.id,
            "userId": connection.user,
            "protocol": connection.session.protocol,
            "transport": connection.outlet.transport,
            "address": connection.handshake.address,
            "since": connection.since,
            "rooms": len(connection.rooms),
            "queueBytes": connection.outlet.buffered,
        }

    def _connection(self, arguments: Arguments) -> object:
        connection = self._connections.get(arguments["id"])
        if connection is None:
            return None
        identity = connection.identity
        return {
            **self._summary(connection),
            "roomIds": sorted(connection.rooms)[:MAX_ROOMS],
            "roles": [] if identity is None else sorted(identity.roles),
            "expiresAt": None if identity is None else int(identity.expires * 1000),
            "origin": connection.handshake.origin,
            "quietSeconds": round(self._seconds() - connection.active, 1),
            "idle": connection.idle,
            "owesPong": connection.outlet.owes_pong,
            "mutedEvents": sorted(connection.muted_events),
            "mutedRooms": sorted(connection.muted_rooms),
        }

    def _events(self, arguments: Arguments) -> object:
        seen = self._watches.events(arguments["id"], int(arguments["after"]))
        if seen is None:
            return None
        return {"events": seen, "open": self._connections.get(arguments["id"]) is not None}
