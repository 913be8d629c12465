"""`FaultCase`: a fleet over Redis, recorders, traffic, and the invariants at the end."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from tests.clients.case import LiveCase
from tests.clients.children import Late
from tests.clients.proxy import Proxy
from tests.clients.recorders import Recorders, Recording
from tests.clients.service import Service
from tests.redis_servers import RedisServer, start_redis, until

from .fleet import Fleet, Node
from .invariants import faults, history_faults, misplaced, parted
from .scale import scaled
from .traffic import Message, Traffic, expected
from .ways import Http, Plain, Streamed

ROOMS = ("event:1", "event:2", "event:3", "lobby", "venue", "backstage")

#: Quicker than an operator's, so that what has to expire does so within a test.
QUICK = {
    "RATE_LIMIT_MAX_CONNECTIONS": "10000",
    "PRESENCE_INTERVAL": "3000",
    "PRESENCE_GRACE": "1000",
    "RECOVERY_WINDOW": "60000",
    "RECOVERY_MAX_MESSAGES": "20000",
    "ROOM_MESSAGE_HISTORY": "20000",
}
LEASE = 3.0
#: Clients that come at a time, before anything is measured: all run in one process of the tests.
COME = 200
GRACE = 1.0

Way = Plain | Streamed | Http


class FaultCase(LiveCase):
    """What every test of this folder starts with, and ends with."""

    timeout = scaled(150, 1800)
    maxDiff = None

    def setUp(self) -> None:
        super().setUp()
        self.redis: RedisServer | None = None
        self.fleet: Fleet
        self.recorders: Recorders
        self.traffics: list[Traffic] = []
        self.senders: list[tuple[Recording, int]] = []
        # sender -> the rooms that it has sent to
        self._sent_to: dict[Recording, set[str]] = {}
        self.marks: Traffic
        self.http: Http

    # -- starting

    async def start_fleet(
        self,
        count: int = 2,
        *,
        url: str | None = "",
        proxied: bool = False,
        ready: bool = True,
        **environ: str,
    ) -> Fleet:
        """Start nodes, over a Redis of their own unless one is given, and a process for recorders.

        :param url: REDIS_URL of what was started already; None for the embedded broker.
        :param proxied: whether each node reaches Redis by a proxy of its own.
        :param ready: whether to wait until the nodes are ready.
        """
        if url == "":
            self.redis = self.redis or await start_redis(self, appendonly=True)
            url = self.redis.url
        proxies = []
        if proxied:
            assert self.redis is not None
            proxies = [Proxy(self.redis.port) for _ in range(count)]
            for proxy in proxies:
                self.addCleanup(proxy.stop)
        self.fleet = Fleet(self._prepare, count, url, proxies, **{**QUICK, **environ})
        self.addCleanup(self.fleet.stop)
        self.recorders = Recorders()
        await self.start_driver(self.recorders)
        await self.fleet.start()
        if ready:
            await self.fleet.ready()
        self.http = Http(lambda: [node.service for node in self.fleet.nodes if self._is_up(node)])
        self.marks = Traffic(random.Random(0), ("nobody",), ("lobby",), "mark", shapes=("system",))
        return self.fleet

    def _prepare(self, **environ: str | None) -> Service:
        service = self.prepare_service(**environ)
        # a frozen one has to go on before it can be ended
        self.addCleanup(_let_go_on, service)
        return service

    @staticmethod
    def _is_up(node: Node) -> bool:
        return node.service.status is None and not node.frozen

    def record(
        self,
        user: str,
        rooms: Iterable[str] = (),
        *,
        node: Node | None = None,
        granted: Sequence[str] = (),
        **options: Any,
    ) -> Recording:
        """A new recorder, at a node or, without one, behind the balancer.

        :param rooms: those that it joins once it is connected.
        :param granted: those that its token joins for it.
        """
        url = self.fleet.balancer.url if node is None else node.url
        token = self.token(user, rooms=["*", *granted])
        made = self.recorders.record(url, token, user, rooms, **options)
        made.granted.update(granted)
        return made

    async def populate(
        self,
        dice: random.Random,
        count: int,
        users: Sequence[str],
        rooms: Sequence[str] = ROOMS,
        *,
        most: int | None = None,
        nodes: Sequence[Node] = (),
    ) -> list[Recording]:
        """Recorders of the users in turn, each in some of the rooms; returns once they are in them.

        :param most: in how many at most; None for all.
        :param nodes: where, in turn; none for behind the balancer.
        """
        made: list[Recording] = []
        for index in range(count):
            some = dice.sample(rooms, dice.randrange(1, (most or len(rooms)) + 1))
            node = nodes[index % len(nodes)] if nodes else None
            made.append(self.record(users[index % len(users)], some, node=node))
            if len(made) % COME == 0:
                await self.recorders.settled(*made[-COME:])
        await self.recorders.settled(*made)
        return made

    # -- traffic

    async def plain(self, redis: Callable[[], RedisServer] | None = None) -> Plain:
        """The way of PUBLISH, connected."""
        way = Plain(redis or self._own_redis)
        await way.connect()
        self.addCleanup(way.close)
        return way

    def streamed(self, redis: Callable[[], RedisServer] | None = None) -> Streamed:
        """The way of Redis Streams."""
        way = Streamed(redis or self._own_redis)
        self.addCleanup(way.close)
        return way

    def _own_redis(self) -> RedisServer:
        assert self.redis is not None
        return self.redis

    def traffic(
        self, dice: random.Random, users: Sequence[str], way: str = "plain", **more: Any
    ) -> Traffic:
        """Traffic that the recorders are expected to get."""
        made = Traffic(dice, users, more.pop("rooms", ROOMS), way, **more)
        self.traffics.append(made)
        return made

    async def flow(self, way: Way, traffic: Traffic, count: int, rate: float) -> None:
        """Publish so many new messages, at so many a second, with the repetitions of their producers."""
        began = reactor.seconds()
        made = 0
        waiting: list[Deferred[None]] = []
        while made < count:
            due = min(count, int((reactor.seconds() - began) * rate) + 1)
            while made < due:
                made += 1
                for message in traffic.next():
                    sent = way.send(message)
                    if isinstance(way, Plain):
                        waiting.append(sent)
                    else:
                        await sent
            await deferLater(reactor, 0.01)
        for success, result in await DeferredList(waiting, consumeErrors=True):
            if not success:
                result.raiseException()

    def send(
        self, sender: Recording, rooms: Sequence[str], count: int, every: int, size: int = 1, *, again: bool
    ) -> None:
        """Let a recorder send room messages to all who are in the rooms; see `Recording.flow`."""
        sender.flow(f"by {sender.name}", rooms, count, every, size, again=again)
        self.senders.append((sender, count))
        self._sent_to.setdefault(sender, set()).update(rooms)

    async def acknowledged(self, seconds: float = 60) -> None:
        """Wait until every message that recorders sent was taken or refused."""
        wanted: dict[Recording, int] = {}
        for sender, count in self.senders:
            wanted[sender] = wanted.get(sender, 0) + count

        def holds() -> bool:
            return all(sender.acknowledged == count for sender, count in wanted.items())

        def what() -> str:
            return f"acknowledged: {[(one, one.acknowledged, count) for one, count in wanted.items()]}"

        await self.recorders.until(holds, what, seconds)

    # -- the end

    async def complete(self, *ways: Way, live: bool = False, seconds: float = 20) -> None:
        """Wait until all that was published has come, then check every invariant.

        :param ways: by which the last message of each traffic goes, in the order of `traffic` calls.
        :param live: whether a session that began anew without a disconnect excuses no loss.
        """
        await self.acknowledged()
        watched = self.recorders.recordings
        await self.recorders.settled(*watched)
        last: list[Message] = []
        for way, traffic in zip(ways, self.traffics, strict=True):
            for message in traffic.last():
                await way.send(message)
                if not message.doubtful:
                    last.append(message)
        last += await self._last_of_senders()
        (mark,) = self.marks.next()
        await self.http.send(mark)
        last.append(mark)
        missing = [(one, message) for one in watched for message in last if message.is_for(one)]

        def holds() -> bool:
            missing[:] = [
                (one, message) for one, message in missing if _newest(one, message.series) < message.n
            ]
            return not missing

        try:
            await self.recorders.until(holds, lambda: f"the last messages: {missing[:5]}", seconds)
        except Late as late:
            # What is wrong is said best by the invariants, if by them at all.
            print(f"\n  {late}"[:600])
        self.check(watched, live=live)
        self.assertEqual(missing, [])

    async def _last_of_senders(self) -> list[Message]:
        """Let each sender send one more into each of its rooms."""
        for sender, rooms in self._sent_to.items():
            self.send(sender, sorted(rooms), len(rooms), 1, len(rooms), again=True)
        await self.acknowledged()
        newest = {sent.series: sent for sender in self._sent_to for sent in sorted(sender.sent)}
        return [
            Message("", series, sent.n, {}, room=series.partition(":")[2])
            for series, sent in newest.items()
        ]

    def check(self, watched: Sequence[Recording], *, live: bool = False) -> None:
        """Check the invariants of what these have received so far."""
        traffics, senders = [*self.traffics, self.marks], list(self._sent_to)
        wanted = {one: expected(one, traffics, senders) for one in watched}
        found = [fault for one in watched for fault in faults(one, wanted[one], live=live)]
        found += misplaced(watched) + parted(watched, wanted)
        kinds = Counter(re.sub(r"<.*?>: |by .*?:|\d+", "", fault) for fault in found)
        self.assertEqual(found[:25], [], f"{len(found)} faults: {kinds.most_common(20)}")

    async def check_history(self, reader: Recording, rooms: Iterable[str]) -> None:
        """Check that the history of each room holds each of its messages once, in order."""
        wanted = expected(reader, self.traffics, list(self._sent_to))
        found = []
        for room in rooms:
            found += history_faults(await self._history(reader, room), room, wanted)
        self.assertEqual(found[:25], [])

    async def _history(self, reader: Recording, room: str) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        after = 0
        while True:
            asked = {"roomId": room, "after": after, "limit": 1000}
            page = self.accepted(await reader.call("room:history", asked))["messages"]
            if not page:
                return messages
            messages += page
            after = page[-1]["offset"]

    async def within(self, seconds: float, holds: Callable[[], Awaitable[Any]], what: str) -> float:
        """Ask until something holds; how many seconds that took."""
        began = reactor.seconds()
        await until(holds, what, seconds)
        return reactor.seconds() - began

    async def relay_holder(self) -> Node:
        """The node that holds the relay's lease."""
        assert self.redis is not None

        async def holder() -> Node | None:
            held = b" ".join(await self._own_redis().command("HGETALL", "realtime:3:relay"))
            return next((node for node in self.fleet.nodes if node.id.encode() in held), None)

        found = await until(holder, "a node to hold the relay's lease")
        assert isinstance(found, Node)
        return found

    async def members(self, node: Node, room: str) -> list[str]:
        """Who is in a room, as one node says."""
        answer = await node.service.request("GET", f"/v1/rooms/{room}/members")
        return sorted(one["userId"] for one in answer.body["members"])


def _let_go_on(service: Service) -> None:
    if service.status is None:
        service.signal("CONT")


def _newest(recording: Recording, series: str) -> int:
    numbers = recording.heard.get(series)
    return numbers[-1] if numbers else -1


def resets(recording: Recording) -> int:
    """How often its session began anew after the first time."""
    return sum(not row[0] for row in recording.of("s")[1:])


def recoveries(recording: Recording) -> list[bool]:
    """Of each return after a cut, whether socket.io-client says that it recovered."""
    return [row[0] for row in recording.of("c")[1:]]
