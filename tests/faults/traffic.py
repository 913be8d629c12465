"""Traffic: numbered messages of other services over all eight shapes of channels, and who is to get them.

Every message carries the name of its series in ``c`` and its number there in ``n``. A series is a
channel and a way by which it is published: within it the order is defined.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.clients.recorders import Recording
from tests.clients.service import PAYLOAD

#: The service's own channels (DESIGN.md section 6), and whom they are for.
OWNED = ("booking:confirmed", "payment:processed", "notification:new")
SHAPES = ("booking", "payment", "notification", "ticket", "user", "event", "room", "system")


@dataclass
class Message:
    """One publication.

    :ivar owner: the one user who is to get it.
    :ivar room: the one room that is to get it; without owner and room everyone is.
    :ivar id: its ``messageId``.
    :ivar doubtful: whether it may not have been taken, so that it may come or not, for all alike.
    """

    channel: str
    series: str
    n: int
    data: dict[str, Any]
    owner: str | None = None
    room: str | None = None
    id: str | None = None
    doubtful: bool = False

    def is_for(self, recording: Recording) -> bool:
        """Whether this client is to get it."""
        if self.owner is not None:
            return self.owner == recording.user
        return self.room is None or self.room in recording.rooms | recording.granted

    def payload(self) -> dict[str, Any]:
        """What a plain PUBLISH carries."""
        marked = {**self.data, "c": self.series, "n": self.n, "note": PAYLOAD}
        return marked if self.id is None else {**marked, "messageId": self.id}

    def text(self) -> str:
        """The payload as JSON."""
        return json.dumps(self.payload(), separators=(",", ":"))


@dataclass
class Expected:
    """What one client is to have, by series.

    :ivar numbers: all, in order.
    :ivar doubtful: those of them that may be missing.
    :ivar unordered: series that may come in any order.
    """

    numbers: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    doubtful: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    unordered: set[str] = field(default_factory=set)

    def add(self, series: str, n: int, *, doubtful: bool = False) -> None:
        """One more."""
        self.numbers[series].append(n)
        if doubtful:
            self.doubtful[series].add(n)

    @property
    def certain(self) -> int:
        """How many must come."""
        return sum(map(len, self.numbers.values())) - sum(map(len, self.doubtful.values()))


class Traffic:
    """Messages made by dice.

    :param users: who may own one.
    :param rooms: those of them that start with ``event:`` get ``event:{id}:{action}`` too.
    :param way: how it is published; part of the series' names.
    :param shapes: which of `SHAPES` occur.
    :param identified: the share of messages with a ``messageId``.
    :param repeated: the share of those that their producer publishes once more.
    :ivar sent: all so far, in order.
    """

    def __init__(
        self,
        dice: random.Random,
        users: Sequence[str],
        rooms: Sequence[str],
        way: str = "plain",
        *,
        shapes: Sequence[str] = SHAPES,
        identified: float = 0.3,
        repeated: float = 0.2,
        filling: int = 0,
    ) -> None:
        self._dice = dice
        self._users = users
        self._rooms = rooms
        self._events = [room.partition(":")[2] for room in rooms if room.startswith("event:")]
        self._way = way
        self._shapes = shapes
        self._identified = identified
        self._repeated = repeated
        self._filling = "x" * filling
        self._numbers: Counter[str] = Counter()
        self.sent: list[Message] = []

    def next(self) -> list[Message]:
        """A new message, as often as its producer publishes it."""
        message = self._made(*self._drawn())
        if self._dice.random() < self._identified:
            message.id = f"{message.series} {message.n}"
            if self._dice.random() < self._repeated:
                return [message, message]
        return [message]

    def last(self) -> Iterator[Message]:
        """One more of everything that there was: what follows shows that nothing before is missing."""
        seen = {(one.channel, one.owner, one.room): one for one in self.sent}
        for channel, owner, room in list(seen):
            one = seen[channel, owner, room]
            yield self._made(channel, one.data, owner, room)

    def _made(
        self, channel: str, data: dict[str, Any], owner: str | None = None, room: str | None = None
    ) -> Message:
        series = f"{self._way} {channel}"
        message = Message(channel, series, self._numbers[series], data, owner, room)
        self._numbers[series] += 1
        self.sent.append(message)
        return message

    def _drawn(self) -> tuple[str, dict[str, Any], str | None, str | None]:
        shape = self._dice.choice(self._shapes)
        filled: dict[str, Any] = {"filling": self._filling} if self._filling else {}
        if shape in ("booking", "payment", "notification"):
            user = self._dice.choice(self._users)
            channel = next(one for one in OWNED if one.startswith(shape))
            return channel, {**filled, "userId": user}, user, None
        if shape == "ticket" and self._dice.random() < 0.7:
            event = self._dice.choice(self._events)
            return "ticket:sold", {**filled, "eventId": event}, None, f"event:{event}"
        if shape == "user":
            user = self._dice.choice(self._users)
            return f"user:{user}:notification:read", filled, user, None
        if shape == "event":
            event = self._dice.choice(self._events)
            return f"event:{event}:moved", filled, None, f"event:{event}"
        if shape == "room":
            room = self._dice.choice(self._rooms)
            return f"room:{room}:{self._dice.choice(('message', 'opened'))}", filled, None, room
        return {"ticket": "ticket:released", "system": "system:announcement"}[shape], filled, None, None


def expected(recording: Recording, traffics: Iterable[Traffic], senders: Iterable[Recording]) -> Expected:
    """What a client is to have of services' traffic, and of what other clients sent to its rooms."""
    found = Expected()
    for traffic in traffics:
        for message in traffic.sent:
            if message.is_for(recording):
                found.add(message.series, message.n, doubtful=message.doubtful)
    for sender in senders:
        for sent in sorted(sender.sent):
            if sent.series.partition(":")[2] in recording.rooms | recording.granted:
                found.add(sent.series, sent.n, doubtful=sent.outcome != "ok")
                if sent.tries > 1:
                    # What was repeated may have been overtaken by what was sent after it.
                    found.unordered.add(sent.series)
    return found
