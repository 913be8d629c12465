"""What recovery promises, held against a model: random lives of many tabs, cut and taken up at random.

The model knows of every session only what its client could know: its rooms and when it entered them,
what was published since, and the last offset that the client has read. From that follows, for every
transport, exactly what is written to it, in which order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close

from .house import Client, House

USERS: Final = ("alice", "bob", "carol")
ROOMS: Final = ("lobby", "event:7", "private:1")
STATUSES: Final = ("online", "away", "busy", "invisible")
GRACE: Final = 5.0
WINDOW: Final = 120.0
TICK: Final = 0.25

Key = tuple[str, ...]


class Entry(NamedTuple):
    """One logged publication: its place, who gets it, what a client sees of it.

    `target` is a room; ``user:{id}`` for a user, ``*`` for everyone.
    """

    number: int
    target: str
    key: Key
    but: str = ""


class Tab:
    """One client and its session, as the model knows them."""

    def __init__(self, client: Client, user: str, name: str) -> None:
        self.client = client
        self.user = user
        self.name = name
        self.grants: tuple[str, ...] = ()
        self.rooms: dict[str, int] = {}
        self.opened = 0
        self.live = True
        self.present = True
        self.gone_at = 0.0
        self.noticed = True
        self.offset: str | None = None
        self.read = 0
        self.expected: list[Key] = []
        self.got: list[int] = []

    def entitled(self, entry: Entry) -> bool:
        if entry.but == self.user:
            return False
        if entry.target == "*":
            return entry.number > self.opened
        if entry.target.startswith("user:"):
            return entry.target == f"user:{self.user}" and entry.number > self.opened
        return entry.number > self.rooms.get(entry.target, entry.number)


def key_of(event: list[Any]) -> Key:
    """What tells one event from another."""
    name, payload = event[0], event[1]
    if name in ("room:message", "booking:confirmed", "system:announcement"):
        return (name, str(payload.get("text") or payload.get("n")))
    if name in ("room:user_joined", "room:user_left", "room:joined", "room:left"):
        return (name, payload["roomId"], payload["userId"])
    if name.startswith("user:"):
        return (name, payload["userId"], payload["status"])
    if name == "system:connected":
        return (name, payload["userId"], str(payload["recovered"]))
    return (name,)


class World:
    """The service, the tabs, and what ought to happen."""

    def __init__(self, test: SynchronousTestCase, seed: int) -> None:
        self.test = test
        self.random = random.Random(seed)
        self.house = House(
            rate_limit_max_connections=1000,
            rate_limit_max_messages=10**9,
            presence_timeout=1e6,
            ws_ping_timeout=1e6,
            presence_grace=GRACE,
            recovery_window=WINDOW,
        )
        test.addCleanup(self.house.stop)
        self.tabs: list[Tab] = []
        self.log: list[Entry] = []
        self.status: dict[str, str] = {}
        self.muted: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        self.changed: dict[str, float] = {}
        self.counter = 0

    # -- what the model knows

    @property
    def now(self) -> float:
        return self.house.clock.seconds()

    def number(self) -> int:
        return self.house.node.broker.sequence().number

    def present(self, user: str) -> list[Tab]:
        return [tab for tab in self.tabs if tab.user == user and tab.present]

    def lives(self) -> list[Tab]:
        return [tab for tab in self.tabs if tab.live]

    def rooms_of(self, user: str) -> set[str]:
        return {room for tab in self.present(user) for room in tab.rooms}

    def shown(self, user: str) -> str:
        if not self.present(user):
            return "offline"
        status = self.status.get(user, "online")
        return "offline" if status == "invisible" else status

    def mutes(self, tab: Tab, name: str, rooms: set[str]) -> bool:
        events, muted_rooms = self.muted.get(tab.user, (frozenset(), frozenset()))
        return name in events or (bool(rooms) and rooms <= muted_rooms)

    def deliver(self, target: str, key: Key, but: str = "", number: int | None = None) -> None:
        """A logged publication, the newest one."""
        entry = Entry(self.number() if number is None else number, target, key, but)
        self.log.append(entry)
        for tab in self.lives():
            rooms = {target} if target in tab.rooms else set()
            if tab.entitled(entry) and not self.mutes(tab, key[0], rooms):
                tab.expected.append(key)

    def tell_status(self, user: str, before: str, rooms: set[str]) -> None:
        after = self.shown(user)
        if after == before:
            return
        self.changed[user] = self.now
        name = {"offline": "user:offline"}.get(after) or (
            "user:online" if before == "offline" else "user:status_change"
        )
        for tab in self.lives():
            shared = rooms & set(tab.rooms)
            if shared and not self.mutes(tab, name, shared):
                tab.expected.append((name, user, after))

    # -- changes of the model

    def enter(self, tab: Tab, room: str, numbers: Iterator[int], first: bool) -> None:
        """The tab is in the room; `numbers` are those of the announcements that follow."""
        if first:
            number = next(numbers)
            self.deliver(room, ("room:user_joined", room, tab.user), tab.user, number)

    def vanish(self, numbers: Iterator[int], *tabs: Tab) -> None:
        """Tabs of one user are present no more, all in one step."""
        going = [tab for tab in tabs if tab.present]
        if not going:
            return
        user = going[0].user
        before, rooms = self.shown(user), self.rooms_of(user)
        for tab in going:
            tab.present = False
        if not self.present(user):
            self.status.pop(user, None)
        self.tell_status(user, before, rooms)
        for room in sorted(rooms - self.rooms_of(user)):
            self.deliver(room, ("room:user_left", room, user), user, next(numbers))

    def begin(self, tab: Tab, grants: tuple[str, ...], numbers: Iterator[int]) -> None:
        """A fresh session began."""
        tab.opened = self.before
        tab.rooms, tab.grants = {}, grants
        before = self.shown(tab.user)
        tab.present = False
        for room in grants:
            first = room not in self.rooms_of(tab.user) and room not in tab.rooms
            self.enter(tab, room, numbers, first)
            tab.rooms[room] = self.log[-1].number if first else self.last(numbers)
        tab.present = True
        self.tell_status(tab.user, before, self.rooms_of(tab.user))
        tab.live = True
        tab.expected.append(("system:connected", tab.user, "False"))
        tab.expected += [("room:joined", room, tab.user) for room in sorted(tab.rooms)]

    def last(self, numbers: Iterator[int]) -> int:
        return self.log[-1].number if self.log and self.log[-1].number > self.before else self.before

    def act(self, act: Callable[[], Any]) -> tuple[Any, Iterator[int]]:
        """Do it; what the broker counted meanwhile goes to the announcements in their order."""
        self.before = self.number()
        outcome = act()
        return outcome, iter(range(self.before + 1, self.number() + 1))

    # -- what the clients do

    def grants(self) -> tuple[str, ...]:
        return ("private:1",) if self.random.random() < 0.7 else ()

    def token(self, user: str, grants: tuple[str, ...]) -> str:
        return self.house.token(user, ttl=1e6, rooms=list(grants))

    def open(self) -> None:
        if len([tab for tab in self.tabs if tab.live or tab.present]) >= 9:
            return
        user, grants = self.random.choice(USERS), self.grants()
        client = Client(self.house)
        _, numbers = self.act(lambda: client.connect(token=self.token(user, grants)))
        tab = Tab(client, user, f"t{len(self.tabs)}")
        tab.live = tab.present = False
        self.tabs.append(tab)
        self.begin(tab, grants, numbers)

    def join(self) -> None:
        tab = self.pick()
        room = self.random.choice(ROOMS)
        if tab is None:
            return
        if room == "private:1" and not tab.grants:
            self.test.assertEqual(tab.client.join(room)["error"]["code"], "room.forbidden")
            return
        first = room not in self.rooms_of(tab.user)
        answer, numbers = self.act(lambda: tab.client.join(room))
        self.test.assertTrue(answer["ok"])
        if room in tab.rooms:
            return
        self.enter(tab, room, numbers, first)
        tab.rooms[room] = self.number()
        tab.expected.append(("room:joined", room, tab.user))

    def leave(self) -> None:
        tab = self.pick()
        if tab is None or not tab.rooms:
            return
        room = self.random.choice(sorted(tab.rooms))
        _, numbers = self.act(lambda: tab.client.call("room:leave", {"roomId": room}))
        self.depart(tab, room, numbers)

    def depart(self, tab: Tab, room: str, numbers: Iterator[int]) -> None:
        del tab.rooms[room]
        if room not in self.rooms_of(tab.user):
            self.deliver(room, ("room:user_left", room, tab.user), tab.user, next(numbers))
        tab.expected.append(("room:left", room, tab.user))

    def say(self) -> None:
        tab = self.pick()
        if tab is None or not tab.rooms:
            return
        room = self.random.choice(sorted(tab.rooms))
        self.counter += 1
        told = str(self.counter)
        again = {"clientMessageId": told}
        self.test.assertTrue(tab.client.say(room, told, **again)["ok"])
        self.deliver(room, ("room:message", told))
        if self.random.random() < 0.2:
            self.test.assertTrue(tab.client.say(room, told, **again)["ok"])

    def publish(self) -> None:
        self.counter += 1
        told = self.counter
        kind = self.random.randrange(3)
        if kind == 0:
            user = self.random.choice(USERS)
            self.house.publish("booking:confirmed", {"userId": user, "n": told}, str(told))
            self.deliver(f"user:{user}", ("booking:confirmed", str(told)))
        elif kind == 1:
            self.house.publish("system:announcement", {"n": told}, str(told))
            self.deliver("*", ("system:announcement", str(told)))
        else:
            room = self.random.choice(ROOMS)
            self.house.publish(f"room:{room}:message", {"text": str(told)}, str(told))
            self.deliver(room, ("room:message", str(told)))

    def choose(self) -> None:
        tab = self.pick()
        if tab is None:
            return
        before, status = self.shown(tab.user), self.random.choice(STATUSES)
        tab.client.call("user:presence", {"status": status})
        self.status[tab.user] = status
        self.tell_status(tab.user, before, self.rooms_of(tab.user))

    def mute(self) -> None:
        tab = self.pick()
        if tab is None:
            return
        events = [name for name in ("room:message", "user:offline") if self.random.random() < 0.2]
        rooms = [room for room in ROOMS if self.random.random() < 0.2]
        tab.client.call("user:preferences", {"mutedEvents": events, "mutedRooms": rooms})
        self.muted[tab.user] = (frozenset(events), frozenset(rooms))

    def refresh(self) -> None:
        tab = self.pick()
        if tab is None:
            return
        grants = self.grants()
        first = "private:1" not in self.rooms_of(tab.user)
        _, numbers = self.act(
            lambda: tab.client.call("auth:token_refresh", {"token": self.token(tab.user, grants)})
        )
        tab.grants = grants
        if not grants and "private:1" in tab.rooms:
            self.depart(tab, "private:1", numbers)
        elif grants and "private:1" not in tab.rooms:
            self.enter(tab, "private:1", numbers, first)
            tab.rooms["private:1"] = self.number()
            tab.expected.append(("room:joined", "private:1", tab.user))

    def login(self) -> None:
        tab = self.pick()
        if tab is None:
            return
        user, grants = self.random.choice(USERS), self.grants()
        if user == tab.user:
            return
        self.settle(tab)
        _, numbers = self.act(lambda: tab.client.call("auth:login", {"token": self.token(user, grants)}))
        tab.live = False
        self.vanish(numbers, tab)
        tab.user, tab.got = user, []
        self.begin_after(tab, grants, numbers)

    def begin_after(self, tab: Tab, grants: tuple[str, ...], numbers: Iterator[int]) -> None:
        """A fresh session began after something else, all in one act."""
        if self.log:
            self.before = max(self.before, self.log[-1].number)
        self.begin(tab, grants, numbers)

    # -- how tabs come and go

    def settle(self, tab: Tab, limit: int | None = None) -> None:
        """The client reads what was written to it, all or only the next few."""
        events = tab.client.outlet.events()
        end = len(events) if limit is None else min(len(events), tab.read + limit)
        for event in events[tab.read : end]:
            if isinstance(event[-1], str):
                tab.offset = event[-1]
            if key_of(event)[0] in ("room:message", "booking:confirmed", "system:announcement"):
                tab.got.append(int(key_of(event)[1]))
        tab.read = end

    def read(self) -> None:
        tab = self.pick()
        if tab is not None:
            self.settle(tab, self.random.randrange(5))

    def cut(self) -> None:
        """The transport is gone with what was not read; noticed at once, or (in `back`) never."""
        tab = self.pick()
        if tab is None:
            return
        if self.random.random() < 0.5:
            self.settle(tab, self.random.randrange(9))
        if self.random.random() < 0.2:
            tab.client.outlet.close(Close.SLOW_CONSUMER)
        tab.client.cut()
        tab.live = False
        tab.gone_at = self.now

    def back(self) -> None:
        """The client comes back to its session, by a new transport."""
        away = [tab for tab in self.tabs if not tab.live and tab.gone_at >= 0]
        unnoticed = self.random.random() < 0.3
        tab = self.pick() if unnoticed else (self.random.choice(away) if away else None)
        if tab is None:
            return
        self.check(tab)
        tab.live = False
        grants = self.grants()
        auth = {"token": self.token(tab.user, grants), "pid": tab.client.pid}
        if tab.offset is not None:
            auth["offset"] = tab.offset
        old = tab.client
        tab.client = Client(self.house)
        _, numbers = self.act(lambda: tab.client.connect(**auth))
        tab.read, tab.expected = 0, []
        kept = tab.present or self.now - tab.gone_at < WINDOW
        if kept and (grants or "private:1" not in tab.rooms):
            self.restored(tab, old, grants, numbers)
        else:
            self.replaced(tab, old, grants, numbers, kept)
        if unnoticed:
            self.test.assertIs(old.outlet.close_reason, Close.REPLACED)
            old.cut()

    def restored(self, tab: Tab, old: Client, grants: tuple[str, ...], numbers: Iterator[int]) -> None:
        self.test.assertEqual((tab.client.sid, tab.client.pid), (old.sid, old.pid))
        since = tab.opened if tab.offset is None else int(tab.offset.rpartition(":")[2])
        for entry in self.log:
            if entry.number > since and tab.entitled(entry):
                rooms = {entry.target} if entry.target in tab.rooms else set()
                if not self.mutes(tab, entry.key[0], rooms):
                    tab.expected.append(entry.key)
        before = self.shown(tab.user)
        if not tab.present:
            for room in tab.rooms:
                first = room not in self.rooms_of(tab.user)
                self.enter(tab, room, numbers, first)
        tab.grants = grants
        tab.present = True
        self.tell_status(tab.user, before, self.rooms_of(tab.user))
        tab.live = True
        tab.expected.append(("system:connected", tab.user, "True"))
        # Rooms that the token brings are joined by a session that has been taken up.
        for room in [room for room in grants if room not in tab.rooms]:
            self.enter(tab, room, numbers, room not in self.rooms_of(tab.user))
            tab.rooms[room] = self.number()
            tab.expected.append(("room:joined", room, tab.user))
        self.expect_statuses(tab)

    def expect_statuses(self, tab: Tab) -> None:
        """After the greeting come the statuses that may have changed: each true, and none missing."""
        told = self.written(tab)[len(tab.expected) :]
        self.test.assertNotIn(tab.user, [key[1] for key in told])
        for name, user, status in told:
            self.test.assertEqual(status, self.shown(user))
            self.test.assertEqual(name, "user:offline" if status == "offline" else "user:status_change")
        silent = self.muted.get(tab.user, (frozenset(), frozenset()))[0]
        for user, changed in self.changed.items():
            shares = self.rooms_of(user) & set(tab.rooms) and user != tab.user
            name = "user:offline" if self.shown(user) == "offline" else "user:status_change"
            if shares and changed > tab.gone_at and name not in silent:
                self.test.assertEqual([key[1] for key in told].count(user), 1)
        tab.expected += told

    def replaced(
        self, tab: Tab, old: Client, grants: tuple[str, ...], numbers: Iterator[int], kept: bool
    ) -> None:
        self.test.assertNotEqual(tab.client.pid, old.pid)
        ghost = Tab(old, tab.user, tab.name)
        ghost.rooms, ghost.present = tab.rooms, tab.present
        ghost.live, ghost.gone_at = False, -1.0
        tab.present, tab.got, tab.offset = False, [], None
        self.tabs.append(ghost)
        self.begin(tab, grants, numbers)
        self.vanish(numbers, ghost)
        self.tabs.remove(ghost)

    def disconnect(self) -> None:
        tab = self.pick()
        if tab is None:
            return
        self.check(tab)
        _, numbers = self.act(tab.client.leave)
        tab.live, tab.gone_at = False, -1.0
        self.vanish(numbers, tab)

    def kick(self) -> None:
        user = self.random.choice(USERS)
        for tab in self.tabs:
            if tab.user == user and tab.live:
                self.check(tab)
        _, numbers = self.act(lambda: self.house.kick(user))
        order = sorted((tab for tab in self.tabs if tab.user == user), key=lambda tab: not tab.live)
        kicked = [tab for tab in order if tab.live]
        for tab in order:
            tab.live, tab.gone_at = False, -1.0
        self.vanish(numbers, *order)
        for tab in kicked:
            self.check(tab)
            self.test.assertEqual(tab.client.outlet.events()[-1][0], "system:error")
            self.test.assertEqual(tab.client.outlet.packets()[-1], "41")
            self.test.assertIs(tab.client.outlet.close_reason, Close.KICKED)

    def wait(self) -> None:
        for _ in range(int(self.random.choice((1, 3, 6, 40, WINDOW)) / TICK)):
            self.tick(TICK)

    def tick(self, seconds: float) -> None:
        """Time passes; who was cut for as long as the grace is seen to be gone."""
        _, numbers = self.act(lambda: self.house.clock.advance(seconds))
        for tab in sorted(self.tabs, key=lambda tab: tab.gone_at):
            late = tab.gone_at + GRACE <= self.now + 1e-6
            if late and tab.present and not tab.live and tab.gone_at >= 0:
                self.vanish(numbers, tab)

    def pick(self) -> Tab | None:
        lives = self.lives()
        return self.random.choice(lives) if lives else None

    # -- judging

    def written(self, tab: Tab) -> list[Key]:
        """What the tab's transport was given, but for what only moves its offset."""
        keys = map(key_of, tab.client.outlet.events())
        return [key for key in keys if key[0] not in ("system:position", "system:error")]

    def check(self, tab: Tab) -> None:
        """What was written to the tab's transport is what had to be."""
        self.test.assertEqual(self.written(tab), tab.expected, tab.name)
        self.test.assertEqual(tab.got, sorted(set(tab.got)), tab.name)

    def verify(self) -> None:
        for tab in self.lives():
            self.check(tab)
        store = self.house.node.store
        for room in ROOMS:
            members = {p.user for p in self.test.successResultOf(store.members(room))}
            self.test.assertEqual(members, {u for u in USERS if room in self.rooms_of(u)}, room)
        for user in USERS:
            presence = self.test.successResultOf(store.presence(user))
            self.test.assertEqual(presence.shown, self.shown(user), user)
            self.test.assertEqual(len(presence.metas), len(self.present(user)))
        self.test.assertEqual(len(self.house.node.connections), len(self.lives()))

    def drain(self) -> None:
        """All tabs read all and go for good: nothing is left of them."""
        for tab in self.lives():
            self.settle(tab)
            self.check(tab)
        for tab in self.lives():
            tab.client.leave()
        node = self.house.node
        self.house.clock.pump([1.0] * int(WINDOW + 10))
        self.test.assertEqual((len(node.connections), len(node.rooms)), (0, 0))
        self.test.assertEqual((node.store.users, node.store.sessions), (0, 0))
        self.test.assertEqual((node.rooms.everyone.members, node.rooms.everyone.muting), ({}, {}))


#: What may happen, and how often in proportion.
ACTS: Final = (
    *(("open", 6), ("join", 10), ("leave", 4), ("say", 25), ("publish", 15), ("choose", 4), ("mute", 2)),
    *(("refresh", 3), ("login", 2), ("read", 10), ("cut", 8), ("back", 14), ("disconnect", 2)),
    *(("kick", 1), ("wait", 6)),
)


class ModelTests(SynchronousTestCase):
    """Random lives."""

    def live(self, seed: int, steps: int) -> None:
        world = World(self, seed)
        names = [name for name, weight in ACTS for _ in range(weight)]
        done: list[str] = []
        try:
            for _ in range(steps):
                done.append(world.random.choice(names))
                getattr(world, done[-1])()
                world.verify()
                world.tick(0.001)
            world.drain()
        except Exception as error:
            raise AssertionError(f"seed {seed}, step {len(done)} ({done[-1]}): {error}") from error

    def test_lives(self) -> None:
        """Every transport gets what its session is due, once and in order, and presence is true."""
        for seed in range(50):
            self.live(seed, 150)
