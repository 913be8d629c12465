"""What a node hears: nothing is lost and nothing comes twice, whatever breaks between it and Redis.

Each test forces one interleaving; the server is real, and so are the connections.
"""

from __future__ import annotations

import itertools
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater

from realtime.broker import hearing as hearing_module
from realtime.broker import line as line_module
from realtime.errors import BrokerUnavailable
from realtime.messages import Audience, Publication, Sequence

from ..redis_servers import until
from .contract import publication
from .redis_bus import Node, RedisBus


class HearingCase(RedisBus):
    """Two nodes: one publishes, the other hears rooms ``a`` and ``b``."""

    async def setUp(self) -> None:
        await self.start_server()
        self.numbers = itertools.count(1)
        self.publisher = await self.start_node()
        self.hearer = await self.start_node()
        self.rooms = {"a", "b"}
        self.patch(self.hearer.delivered, "wants", self.rooms.__contains__)
        await self.hearer.broker.at_point(["a", "b"], "fence")

    @property
    def hearing(self) -> Any:
        return self.hearer.broker.hearing

    @property
    def subscriber(self) -> Any:
        return self.hearer.broker._links.subscriber

    async def publish(self, *rooms: str, **more: Any) -> list[str]:
        """Publish once to each room; the ids."""
        made = [publication(room, **more) for room in rooms]
        for one in made:
            await self.publisher.broker.publish(one)
        return [one.id for one in made]

    def heard(self, node: Node | None = None) -> list[str]:
        return [one.id for one in (node or self.hearer).delivered.publications]

    async def eventually(self, ids: list[str]) -> None:
        """What was delivered becomes exactly this, in this order."""

        async def all_of_them() -> bool:
            return len(self.heard()) >= len(ids) and not self.hearing.line.stopped

        await until(all_of_them, f"{len(ids)} publications; {len(self.heard())} came")
        self.assertEqual(self.heard(), ids)

    def swallow(self, wanted: Any) -> Deferred[None]:
        """Lose the next message on the subscriber connection that `wanted` (channel, text) picks."""
        real, lost = self.subscriber._connection.on_message, Deferred()

        def lossy(channel: bytes, text: bytes) -> None:
            if not lost.called and wanted(channel, text):
                lost.callback(None)
            else:
                real(channel, text)

        self.subscriber._connection.on_message = lossy
        return lost


class BreakTests(HearingCase):
    """The subscriber connection is lost."""

    async def test_killed(self) -> None:
        """What is published while it is away is read from the logs, and delivered in its place."""
        ids = await self.publish("a", "b")
        await self.eventually(ids)
        for turn in range(5):
            await self.server.command("CLIENT", "KILL", "TYPE", "pubsub")
            ids += await self.publish("a", "b", "a", "c", "b")
            ids.pop(-2)
            await self.eventually(ids)
            ids += await self.publish("b")
            await self.eventually(ids)
            self.assertGreaterEqual(self.hearing.repairs, turn + 1)

    async def test_nothing_of_the_old_connection(self) -> None:
        """A message that was under way when the connection broke is delivered once."""
        lost = self.swallow(lambda channel, text: b"channel:a" in channel)
        ids = await self.publish("a")
        await lost
        self.subscriber.drop("test")
        ids += await self.publish("b")
        await self.eventually(ids)

    async def test_everyone(self) -> None:
        """What is for everyone is read again as well; what is not logged is not."""
        lost = self.swallow(lambda channel, text: b"channel:*" in channel)
        one = publication(audience=Audience(everyone=True))
        await self.publisher.broker.publish(one)
        await lost
        self.subscriber.drop("test")
        await self.publisher.broker.publish(publication("a", "room:typing", logged=False))
        await self.eventually([one.id])

    async def test_marker_lost(self) -> None:
        """Who waits for a marker that was lost enters after the repair, and misses nothing from then on."""
        lost = self.swallow(lambda channel, text: b"inbox" in channel and text.startswith(b"m "))
        self.rooms.add("new")
        entering = self.hearer.broker.at_point(["new"], "fence")
        await lost
        await until(self._answered, "the script's answer")
        ids = await self.publish("new")
        self.assertNoResult(entering)
        self.subscriber.drop("test")
        point = await entering
        self.assertGreaterEqual(point.sequence.number, 1)
        ids += await self.publish("new")
        # The first was before the entry: it may have been delivered or not, by what the log has.
        await self.eventually(ids)

    async def _answered(self) -> bool:
        return any(entry.payload is not None for entry in self.hearing._waiting.values())

    async def test_subscribing_while_it_breaks(self) -> None:
        """A room that is being entered as the connection breaks is refused or entered, never half."""
        for _ in range(10):
            room = f"r{next(self.numbers)}"
            self.rooms.add(room)
            entering = self.hearer.broker.at_point([room], "fence")
            self.subscriber.drop("test")
            try:
                await entering
            except BrokerUnavailable as error:
                self.assertIsNotNone(error.retry_after)
                self.rooms.discard(room)
                continue
            before = len(self.heard())
            (identity,) = await self.publish(room)
            await until(self._has(identity), "what is published after the entry")
            self.assertEqual(len(self.heard()), before + 1)

    def _has(self, identity: str) -> Any:
        async def has() -> bool:
            return identity in self.heard()

        return has

    async def test_broken_in_repair(self) -> None:
        """A connection that breaks again while what was missed is read changes nothing."""
        read = self.hearer.broker.read
        broken: list[None] = []

        def breaking(name: str, *args: Any) -> Any:
            if len(broken) < 3:
                broken.append(None)
                self.subscriber.drop("test")
            return read(name, *args)

        self.patch(self.hearer.broker, "read", breaking)
        self.subscriber.drop("test")
        ids = await self.publish("a", "b", "a")
        await self.eventually(ids)
        self.assertEqual(len(broken), 3)

    async def test_reading_fails(self) -> None:
        """While the logs can't be read the line stays stopped, says so, and tries again."""
        read, refused = self.hearer.broker.read, []

        def failing(name: str, *args: Any) -> Any:
            if len(refused) < 2:
                refused.append(self.hearer.broker.causes())
                raise BrokerUnavailable
            return read(name, *args)

        self.patch(self.hearer.broker, "read", failing)
        self.subscriber.drop("test")
        ids = await self.publish("a")
        await self.eventually(ids)
        self.assertEqual(refused, [["redis_repairing"]] * 2)
        self.assertEqual(self.hearer.broker.causes(), [])

    async def test_deaf(self) -> None:
        """A connection that is in order, and on which nothing comes, is given up by the probe."""
        self.patch(hearing_module, "PROBE_TIMEOUT", 0.5)
        self.subscriber._connection.on_message = lambda channel, text: None
        ids = await self.publish("a")
        await self.eventually(ids)

    async def test_many_channels_and_bytes(self) -> None:
        """More channels and bytes than one script reads are read in parts."""
        self.patch(hearing_module, "READ_CHANNELS", 7)
        self.patch(hearing_module, "READ_BYTES", 2000)
        rooms = [f"room{number}" for number in range(30)]
        self.rooms.update(rooms)
        await self.hearer.broker.at_point(rooms, "fence")
        self.subscriber.drop("test")
        ids = await self.publish(*rooms, *rooms, data=b'{"x":"%s"}' % (b"x" * 300))
        await self.eventually(ids)

    async def test_overflow(self) -> None:
        """More than is kept back while the line is stopped is read from the logs once more."""
        self.patch(line_module, "MAX_KEPT", 5)
        self.hearing.line.stop()
        ids = await self.publish(*"abababababab")
        await self.hearer.broker.command("PING")
        self.hearing.repair()
        await self.eventually(ids)


class GapTests(HearingCase):
    """A message is missing, although the connection is not broken."""

    async def test_gap(self) -> None:
        """The line stops until the message is read from the log; all channels wait for it.

        It shows with the next one of its channel: until then others have gone ahead.
        """
        ids = await self.publish("a")
        await self.eventually(ids)
        lost = self.swallow(lambda channel, text: b"channel:a" in channel)
        first, ahead, *rest = await self.publish("a", "b", "a", "b")
        await lost
        await self.eventually([*ids, ahead, first, *rest])

    async def test_log_too_short(self) -> None:
        """Who missed more of a room than its log has is told so, and goes on; other rooms are whole."""
        await self.eventually(await self.publish("a", "b"))
        self.hearer.delivered.publications.clear()
        real = self.subscriber._connection.on_message
        self.subscriber._connection.on_message = lambda channel, text: (
            None if b"channel:" in channel else real(channel, text)
        )
        await self.publish(*["a"] * 60)
        other = await self.publish("b")
        self.subscriber.drop("test")
        await until(self._told, "a reset")
        self.assertEqual(self.hearer.peer.resets, [frozenset({"a"})])
        await until(self._has(other[0]), "the other room")
        ids = await self.publish("a")
        await until(self._has(ids[0]), "what comes after it")

    _has = BreakTests._has

    async def _told(self) -> bool:
        return bool(self.hearer.peer.resets)


class ChannelTests(HearingCase):
    """Channels are heard while somebody is in them."""

    async def subscribed(self) -> set[str]:
        names = await self.server.command("PUBSUB", "CHANNELS", "realtime:3:channel:*")
        return {name.decode().removeprefix("realtime:3:channel:") for name in names}

    async def test_only_while_needed(self) -> None:
        """A channel is subscribed while it is needed, and a while longer."""
        self.assertEqual(await self.subscribed(), {"*", "a", "b"})
        self.rooms.discard("a")
        self.hearer.broker.release("a")
        self.assertIn("a", await self.subscribed())

        async def gone() -> bool:
            return await self.subscribed() == {"*", "b"}

        await until(gone, "the channel is not subscribed any more")
        self.assertEqual(self.hearing.channels, 2)

    async def test_needed_again(self) -> None:
        """One that is entered again before that stays."""
        self.hearer.broker.release("a")
        await deferLater(reactor, hearing_module.LINGER + 0.2)
        self.assertIn("a", await self.subscribed())
        ids = await self.publish("a")
        await self.eventually(ids)

    async def test_unneeded_after_a_break(self) -> None:
        """What nobody needs any more when the connection comes back is not heard again."""
        self.rooms.discard("a")
        self.subscriber.drop("test")

        async def gone() -> bool:
            return self.subscriber.up and await self.subscribed() == {"*", "b"}

        await until(gone, "only what is needed")

    async def test_entered_side_by_side(self) -> None:
        """Many that enter one room at once wait for one subscription."""
        entering = [self.hearer.broker.at_point(["c"], "fence") for _ in range(20)]
        for point in entering:
            await point
        self.rooms.add("c")
        ids = await self.publish("c")
        await self.eventually(ids)


class RunTests(HearingCase):
    """Redis is restarted, loses data, or goes back in time."""

    def place(self, node: Node | None = None) -> Sequence:
        return (node or self.hearer).broker.sequence()

    async def whole(self) -> None:
        """Both nodes hear again."""

        async def alive() -> bool:
            return all(node.broker.alive() for node in self.nodes)

        await until(alive, "both nodes are in order")

    async def test_other_run_does_nothing(self) -> None:
        """A script that meets another run of the server than it knows of does nothing."""
        ids = await self.publish("a")
        await self.server.command("HSET", "realtime:3:log", "run", "another")
        before = await self.server.command("DUMP", "realtime:3:meta:a")
        broker = self.publisher.broker
        with self.assertRaises(BrokerUnavailable):
            await broker.run_once("publish", *_arguments(publication("a")), "", "", "")
        self.assertEqual(await self.server.command("DUMP", "realtime:3:meta:a"), before)
        # That has resumed: the next one goes through, in a new generation.
        ids += await self.publish("a")
        await self.eventually(ids)
        self.assertEqual(self.place(self.publisher).generation, 2)

    async def test_restarted_with_its_data(self) -> None:
        """A restart that kept all begins a new generation; nobody is told of a gap."""
        ids = await self.publish("a", "b")
        await self.eventually(ids)
        before = self.place()
        await self.server.command("SAVE")
        await self.server.restart()
        await self.whole()
        ids += await self.publish("a")
        await self.eventually(ids)
        after = self.place()
        self.assertEqual((after.epoch, after.generation), (before.epoch, before.generation + 1))
        self.assertEqual(self.hearer.peer.resets, [])
        self.assertIn(True, self.hearer.peer.returns)

    async def test_restarted_without_data(self) -> None:
        """A restart without data begins a new epoch: all are told, once, and then hear what comes."""
        await self.eventually(await self.publish("a", "b"))
        before = self.place()
        await self.server.restart_empty()
        await self.whole()
        self.hearer.delivered.publications.clear()
        ids = await self.publish("a", "b")
        await self.eventually(ids)
        self.assertNotEqual(self.place().epoch, before.epoch)
        self.assertGreater(self.place().number, before.number)
        for node in self.nodes:
            self.assertEqual(node.peer.resets, [None])
            self.assertIn(True, node.peer.returns)

    async def test_flushed(self) -> None:
        """FLUSHALL in the midst of it is the same, although no connection breaks."""
        await self.eventually(await self.publish("a", "b"))
        await self.server.command("FLUSHALL")
        await self.publish("a", "b")

        async def told() -> bool:
            return all(node.peer.resets for node in self.nodes)

        await until(told, "both nodes tell their clients")
        await self.whole()
        self.hearer.delivered.publications.clear()
        ids = await self.publish("a", "b")
        await self.eventually(ids)
        for node in self.nodes:
            self.assertEqual(node.peer.resets, [None])

    async def test_flushed_and_refused(self) -> None:
        """Where it is not known at once what there is after FLUSHALL, that is asked again."""
        await self.eventually(await self.publish("a", "b"))
        real, refused = self.hearer.broker.resume, []

        def resume() -> Deferred[None]:
            if len(refused) == 2:
                return real()
            refused.append(fail(BrokerUnavailable()))
            return refused[-1]

        self.patch(self.hearer.broker, "resume", resume)
        await self.server.command("FLUSHALL")
        await self.publish("a", "b")

        async def told() -> bool:
            return self.hearer.peer.resets == [None]

        await until(told, "the clients to be told")
        await self.whole()
        self.hearer.delivered.publications.clear()
        await self.eventually(await self.publish("a", "b"))
        self.assertEqual(len(refused), 2)

    async def test_back_in_time(self) -> None:
        """Data from before what a node has heard begins a new epoch, whoever finds out first."""
        await self.eventually(await self.publish("a"))
        snapshot = await self.server.snapshot()
        await self.eventually([*self.heard(), *await self.publish("a", "b", "a")])
        before = self.place()
        await self.server.restart_from(snapshot)
        await self.whole()
        self.hearer.delivered.publications.clear()
        ids = await self.publish("b", "a")
        await self.eventually(ids)
        self.assertNotEqual(self.place().epoch, before.epoch)
        self.assertGreater(self.place().number, before.number)
        for node in self.nodes:
            self.assertEqual(node.peer.resets, [None])

    async def test_back_in_time_and_on(self) -> None:
        """A node that comes late finds numbers above its own, and still knows that the data went back."""
        await self.eventually(await self.publish("a"))
        snapshot = await self.server.snapshot()
        await self.eventually([*self.heard(), *await self.publish("a", "a")])
        late = self.place()
        # The publisher forgets what it knows, as one that was started anew.
        await self.publisher.stop()
        self.nodes.remove(self.publisher)
        real = self.hearer.broker.resume
        held: list[Deferred[None]] = []

        def later() -> Deferred[None]:
            held.append(Deferred())
            return held[-1]

        self.patch(self.hearer.broker, "resume", later)
        await self.server.restart_from(snapshot)
        self.publisher = await self.start_node()
        self.hearer.delivered.publications.clear()
        taken = await self.publish(*"abaaabaa")
        self.assertGreater(self.publisher.broker._highest, late.number)
        self.patch(self.hearer.broker, "resume", real)
        for waiting in held:
            real().chainDeferred(waiting)
        await self.whole()
        self.assertNotEqual(self.place().epoch, late.epoch)
        self.assertEqual(self.hearer.peer.resets, [None])
        # The one who was right about its numbers is told as well: offsets of both lives would look alike.
        await until(self._both, "the same epoch")
        self.assertEqual(self.publisher.peer.resets, [None])
        # What was taken meanwhile is delivered: it is no less promised than what comes now.
        await self.eventually(taken + await self.publish("b", "a"))

    async def test_epochs_gone_by(self) -> None:
        """A node that was away over an epoch tells of it, and of the next, and lacks nothing of either."""
        await self.eventually(await self.publish("a"))
        snapshot = await self.server.snapshot()
        await self.eventually([*self.heard(), *await self.publish("a", "a")])
        real, held = self.hearer.broker.resume, []

        def later() -> Deferred[None]:
            held.append(Deferred())
            return held[-1]

        self.patch(self.hearer.broker, "resume", later)
        self.hearer.delivered.publications.clear()
        taken: list[str] = []
        for _ in range(2):
            await self.server.restart_from(snapshot)
            await until(self._publishes, "the publisher to be in order")
            taken += await self.publish(*"aba")
            # goes back to before what the publisher knows
            snapshot = await self.server.snapshot()
            self.publisher.broker._highest += 5
        self.patch(self.hearer.broker, "resume", real)
        for waiting in held:
            real().chainDeferred(waiting)
        await self.whole()
        await self.eventually(taken + await self.publish("b", "a"))
        self.assertEqual(self.hearer.peer.resets, [None, None])

    async def _publishes(self) -> bool:
        return self.publisher.broker.alive()

    async def _both(self) -> bool:
        return self.place().epoch == self.place(self.publisher).epoch

    async def test_back_without_anyone_who_heard(self) -> None:
        """Data that went back to where everybody stands is no gap."""
        snapshot = await self.server.snapshot()
        before = self.place()
        await self.server.restart_from(snapshot)
        await self.whole()
        self.assertEqual(self.place().epoch, before.epoch)
        self.assertEqual(self.hearer.peer.resets, [])

    async def test_offsets_of_an_older_generation(self) -> None:
        """A client's place from before a restart is good up to where the data stood, and not above."""
        ids = await self.publish("a", "a", "a")
        await self.eventually(ids)
        old = self.place()
        await self.server.command("SAVE")
        await self.server.restart()
        await self.whole()
        await self.publish("a", "a")
        place = await self.hearer.broker.read("history", "a", "", "", 1, "newest")
        epoch = place[1].decode()

        async def recovers(number: int, generation: int) -> bool:
            told = await self.hearer.broker.read(
                "recover", 10**6, old.epoch, generation, number, "a", number, epoch
            )
            return bool(told[0] == b"OK")

        self.assertTrue(await recovers(old.number, old.generation))
        self.assertFalse(await recovers(old.number + 1, old.generation))
        self.assertTrue(await recovers(old.number + 1, old.generation + 1))
        self.assertFalse(await recovers(old.number + 99, old.generation + 1))
        self.assertFalse(await recovers(1, old.generation + 2))

    async def test_frozen(self) -> None:
        """While Redis stands still all is refused in time, nothing is done later, and all heals."""
        await self.eventually(await self.publish("a"))
        self.server.freeze()
        self.addCleanup(self.server.thaw)
        refused = publication("a")
        with self.assertRaises(BrokerUnavailable):
            await self.publisher.broker.publish(refused)

        async def away() -> bool:
            return not self.publisher.broker.alive() and not self.hearer.broker.alive()

        await until(away, "both nodes say that it is away")
        self.server.thaw()
        await self.whole()
        ids = [*self.heard()[:1], *await self.publish("a")]
        await self.eventually(ids)
        self.assertNotIn(refused.id, self.heard())

    async def test_wrong_replies_do_no_harm(self) -> None:
        """Rubbish on our own channels is dropped."""
        for channel in ("channel:a", f"inbox:{self.hearer.broker.node}", "signals", "epochs"):
            for text in (b"", b"m", b"m 1", b"m 1 2\n", b"d {", b"d 7", b"\xff\xfe", b"x"):
                await self.server.command("PUBLISH", f"realtime:3:{channel}", text)
        ids = await self.publish("a")
        await self.eventually(ids)
        self.flushLoggedErrors(Exception)


def _arguments(made: Publication) -> Any:
    from realtime.broker.redis import arguments

    return arguments(made, None)
