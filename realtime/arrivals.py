"""Arrivals: the sessions that the store is asked to begin or to take up on this node."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from .connections import Connection
from .messages import Owner


class Arrival:
    """A session on its way here.

    What ends it may be heard of before the store's answer, which waits for its place in the order.

    :ivar displaced: owners whose session was taken up elsewhere meanwhile.
    """

    __slots__ = ("connection", "displaced", "id")

    def __init__(self, connection: Connection, connection_id: str) -> None:
        self.connection = connection
        self.id = connection_id
        self.displaced: list[Owner] = []


class Arrivals:
    """Those of one node; as many as connections that wait for the store."""

    def __init__(self) -> None:
        self._all: dict[Arrival, None] = {}

    @contextmanager
    def expect(self, connection: Connection, connection_id: str) -> Iterator[Arrival]:
        """While the store is asked for a session that will be held by the connection of this id."""
        arrival = Arrival(connection, connection_id)
        self._all[arrival] = None
        try:
            yield arrival
        finally:
            del self._all[arrival]

    def displace(self, owner: Owner) -> None:
        """A session was taken up elsewhere: tell those who expect it."""
        for arrival in self._all:
            if arrival.id == owner.connection:
                arrival.displaced.append(owner)

    def among(self, connection_ids: Collection[str]) -> list[Connection]:
        """The connections that expect to be one of these."""
        return [arrival.connection for arrival in self._all if arrival.id in connection_ids]
