"""Subscriber: what one client of WAMP is subscribed to, and which of its rooms hang on that."""

from __future__ import annotations

from .wamp_messages import Asked
from .wamp_topics import Interest, Interests, Subscription


class Subscriber:
    """The subscriptions of one connection. What is asked of it is asked in the order of the requests.

    :ivar user: whose topics `user.{userId}` are.
    :ivar interest: what its subscriptions together match.
    :ivar joining: the SUBSCRIBE that waits for its room to be joined; None for none.
    """

    __slots__ = ("_by_id", "_interests", "_kept", "_leaving", "interest", "joining", "user")

    def __init__(self, interests: Interests) -> None:
        self._interests = interests
        self.user = ""
        self.joining: Asked | None = None
        self._by_id: dict[int, Subscription] = {}
        # The room that is being left with the last of its subscriptions.
        self._leaving: str | None = None
        # Rooms that were asked for otherwise, too, and so are not left by unsubscribing.
        self._kept: set[str] = set()
        self._changed()

    def __len__(self) -> int:
        return len(self._by_id)

    def _changed(self) -> None:
        self.interest: Interest = self._interests.get(frozenset(self._by_id.values()), self.user)

    def get(self, number: int) -> Subscription | None:
        """The subscription with this id."""
        return self._by_id.get(number)

    def add(self, one: Subscription) -> bool:
        """Subscribe; False if that is no news."""
        if one.id in self._by_id:
            return False
        self._by_id[one.id] = one
        self._changed()
        return True

    def remove(self, *subscriptions: Subscription) -> None:
        """They end."""
        for one in subscriptions:
            self._by_id.pop(one.id, None)
        self._changed()

    def end(self, one: Subscription) -> str | None:
        """It is to end: the room that is to be left with it, if there is one."""
        room = one.room
        if room is None or room in self._kept:
            return None
        if any(other.room == room for other in self._by_id.values() if other is not one):
            return None
        self._leaving = room
        return room

    def answered(self) -> None:
        """The request that waited does so no more."""
        self.joining = None
        self._leaving = None

    def keep(self, room: str) -> None:
        """A room was asked for by itself: it is not left by unsubscribing."""
        self._kept.add(room)

    def entered(self, room: str) -> Asked | None:
        """The connection is in the room: the SUBSCRIBE that waits for that, if one does."""
        asked = self.joining
        if asked is None or asked.subscription is None or asked.subscription.room != room:
            self._kept.add(room)
            return None
        return asked

    def left(self, room: str) -> list[Subscription]:
        """The connection has left the room: the subscriptions that end with that, unasked."""
        self._kept.discard(room)
        if room == self._leaving:
            return []
        return [one for one in self._by_id.values() if one.room == room]

    def become(self, user: str) -> list[Subscription]:
        """The connection is somebody else's: the subscriptions that were the other's."""
        self.user = user
        self._kept.clear()
        return [one for one in self._by_id.values() if one.room is not None or one.personal]
