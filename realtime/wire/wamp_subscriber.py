"""Subscriber: what one client of WAMP is subscribed to, and which of its rooms hang on that."""

from __future__ import annotations

from .wamp_messages import UNSUBSCRIBE, Asked
from .wamp_topics import Interest, Interests, Subscription


class Subscriber:
    """The subscriptions of one connection.

    Requests are taken while earlier ones still wait for a store: what is on its way counts, too.

    :ivar user: whose topics `user.{userId}` are.
    :ivar interest: what its subscriptions together match.
    """

    __slots__ = ("_by_id", "_ending", "_interests", "_joining", "_kept", "_leaving", "interest", "user")

    def __init__(self, interests: Interests) -> None:
        self._interests = interests
        self.user = ""
        self._by_id: dict[int, Subscription] = {}
        # SUBSCRIBEs that wait for their room to be joined.
        self._joining: dict[str, list[Asked]] = {}
        # Subscriptions whose UNSUBSCRIBE is not answered yet, and rooms that are left by that.
        self._ending: set[int] = set()
        self._leaving: set[str] = set()
        # Rooms that were joined otherwise, and so are not left by unsubscribing.
        self._kept: set[str] = set()
        self._changed()

    def __len__(self) -> int:
        return len(self._by_id)

    def _changed(self) -> None:
        self.interest: Interest = self._interests.get(frozenset(self._by_id.values()), self.user)

    def get(self, number: int) -> Subscription | None:
        """The subscription with this id."""
        return self._by_id.get(number)

    def lasts(self, one: Subscription) -> bool:
        """Whether it is subscribed to, and will be."""
        return one.id in self._by_id and one.id not in self._ending

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
            self._ending.discard(one.id)
        self._changed()

    def wait(self, room: str, asked: Asked) -> None:
        """A SUBSCRIBE waits for the room to be joined."""
        self._joining.setdefault(room, []).append(asked)

    def end(self, one: Subscription) -> str | None:
        """It is to end: the room that is to be left with it, if there is one."""
        self._ending.add(one.id)
        room = one.room
        if room is None or room in self._kept or room in self._joining:
            return None
        lasting = self._by_id.keys() - self._ending
        if any(self._by_id[other].room == room for other in lasting):
            return None
        self._leaving.add(room)
        return room

    def answered(self, asked: Asked) -> None:
        """A request waits no more."""
        one = asked.subscription
        if one is None:
            return
        if asked.kind == UNSUBSCRIBE:
            self._ending.discard(one.id)
            self._leaving.discard(one.room or "")
        waiting = [other for other in self._joining.get(one.room or "", ()) if other is not asked]
        if waiting:
            self._joining[one.room or ""] = waiting
        else:
            self._joining.pop(one.room or "", None)

    def entered(self, room: str) -> Asked | None:
        """The connection is in the room: the SUBSCRIBE that waits for that, if one does."""
        waiting = self._joining.get(room)
        if waiting:
            return waiting[0]
        self._kept.add(room)
        return None

    def left(self, room: str) -> list[Subscription]:
        """The connection has left the room: the subscriptions that end with that, unasked."""
        self._kept.discard(room)
        if room in self._leaving:
            return []
        return [one for one in self._by_id.values() if one.room == room]

    def become(self, user: str) -> list[Subscription]:
        """The connection is somebody else's: the subscriptions that were the other's."""
        self.user = user
        self._kept.clear()
        return [one for one in self._by_id.values() if one.room is not None or one.personal]
