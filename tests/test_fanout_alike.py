"""What is sent alike arrives as what is written one by one: the same story told both ways, by dice."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from realtime import fanout
from realtime.connections import Connection
from realtime.errors import Close
from realtime.fanout import Fanout
from realtime.journal import Journal
from realtime.messages import Audience, Handshake, Identity, Publication, user_room
from realtime.metrics import Metrics
from realtime.rights import Rights
from realtime.rooms import Rooms
from realtime.wire.session import Frame

from .transport.peer import PING, World, frame

ROOMS = ("a", "b")
MEMBERS = 7
STEPS = 120


class Session:
    """Encodes a publication as one of two encodings."""

    protocol = "socketio"

    def __init__(self) -> None:
        self.encoding = "x"

    def encode(self, publication: Publication) -> Frame:
        return Frame(b"4" + self.encoding.encode() + publication.data)


class Story:
    """A few connections over WebSockets and long-polling, in rooms; and what each of them was told.

    :ivar told: the texts that each has got, turn by turn.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.world = World(max_queue_bytes=1 << 20)
        self.rooms = Rooms()
        self.metrics = Metrics()
        self.members: dict[str, Connection] = {}
        self.readers: list[Callable[[], list[str]]] = []
        self.peers: list[Any] = []
        self.told: list[list[list[str]]] = []
        self.number = 0
        self.fanout = Fanout(
            self.rooms,
            Rights(),
            self.metrics,
            Journal(lambda: 0.0),
            lambda: 1.0,
            flusher=self.world.websockets.flusher,
            find=self.members.get,
        )
        for index in range(MEMBERS):
            self.open(index)

    def open(self, index: int) -> None:
        peer, recorder = self.world.websocket()
        self.peers.append(peer)
        self.readers.append(peer.said)
        made = Connection(Session(), recorder.socket, Handshake("192.0.2.1"), 0.0)  # type: ignore[arg-type]
        made.id = f"c{index}"
        made.identity = Identity(f"u{index % 5}", frozenset(), (), 1e9)
        made.reencode()
        self.members[made.id] = made
        self.rooms.admit(made)
        self.rooms.enter(made, user_room(made.user), False)
        for room in ROOMS:
            self.rooms.enter(made, room, True)

    def step(self) -> None:
        """Something happens. The dice are thrown alike however it is sent."""
        index = self.dice.randrange(MEMBERS)
        one = self.members[f"c{index}"]
        room = self.dice.choice(ROOMS)
        what = self.dice.choices(
            [
                "room",
                "but",
                "all",
                "user",
                "own",
                "leave",
                "enter",
                "mute",
                "encode",
                "ping",
                "turn",
                "end",
            ],
            [40, 10, 5, 5, 10, 3, 5, 2, 5, 3, 15, 1],
        )[0]
        self.number += 1
        if what == "room":
            self.deliver(Audience(rooms=frozenset((room,))))
        elif what == "but":
            left_out = {"except_connections": frozenset((one.id,))}
            if self.dice.random() < 0.5:
                left_out = {"except_users": frozenset((one.user,))}
            self.deliver(Audience(rooms=frozenset((room,)), **left_out))
        elif what == "all":
            self.deliver(Audience(everyone=True))
        elif what == "user":
            self.deliver(Audience(users=frozenset((one.user,)), rooms=frozenset((room,))))
        elif what == "own":
            one.outlet.write(Frame(b"4own %d" % self.number))
        elif what == "turn":
            self.turn()
        elif what == "ping":
            self.peers[index].send(frame(PING, b"?"))
        elif what == "end":
            one.outlet.close(Close.KICKED)
            self.rooms.dismiss(one)
        elif one.id in self.members and one in self.rooms.everyone.members:
            self.move(what, one, room)

    def move(self, what: str, one: Connection, room: str) -> None:
        if what == "leave":
            self.rooms.remove(one, room)
        elif what == "enter":
            self.rooms.enter(one, room, True)
        elif what == "mute":
            one.muted_rooms = frozenset() if one.muted_rooms else frozenset((room,))
            self.rooms.remute(one)
        else:
            one.session.encoding = self.dice.choice("xy")
            one.reencode()

    def deliver(self, audience: Audience) -> None:
        size = 40_000 if self.dice.random() < 0.03 else 1
        data = b"%d %b" % (self.number, b"." * size)
        self.fanout.deliver(Publication("room:message", data, audience, str(self.number), 1000))

    def turn(self) -> None:
        self.told.append([read() for read in self.readers])

    def tell(self) -> tuple[list[list[list[str]]], float | None]:
        """All that was told, and how many messages were counted."""
        for _ in range(STEPS):
            self.step()
        self.turn()
        labels = {"event": "room:message", "protocol": "socketio"}
        return self.told, self.metrics.registry.get_sample_value("realtime_messages_sent_total", labels)


class AlikeTests(SynchronousTestCase):
    """`Fanout`, with batches and without."""

    def test_the_same_story(self) -> None:
        for seed in range(60):
            self.patch(fanout, "ALIKE_FROM", 10**9)
            one_by_one = Story(seed).tell()
            self.patch(fanout, "ALIKE_FROM", 2)
            self.assertEqual(Story(seed).tell(), one_by_one, f"seed {seed}")
            self.assertGreater(one_by_one[1] or 0, 0)
