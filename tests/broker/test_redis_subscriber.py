"""Subscriptions, with real servers: acknowledged by count, exact, back after a loss."""

from __future__ import annotations

from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from realtime.broker.redis_protocol import RedisError, SubscriberConnection
from realtime.errors import BrokerUnavailable

from .links import LinkCase
from .test_redis_link import PAYLOADS


class SubscriberTests(LinkCase):
    """A link for pub/sub."""

    async def setup(self) -> None:
        await self.start_server()
        self.subscriber_link = await self.subscriber()

    async def publish(self, channel: str, data: bytes | str | int) -> None:
        await self.server.command("PUBLISH", channel, data)

    async def receivers(self, *channels: str) -> list[int]:
        told = await self.server.command("PUBSUB", "NUMSUB", *channels)
        return told[1::2]

    async def test_payloads(self) -> None:
        """Payloads and channels arrive as they were published, byte for byte."""
        await self.setup()
        await self.subscriber_link.subscribe([b"\xff1"])
        for payload in PAYLOADS:
            await self.server.command("PUBLISH", b"\xff1", payload)
        self.assertEqual(await self.heard(len(PAYLOADS)), [(b"\xff1", payload) for payload in PAYLOADS])

    async def test_patterns(self) -> None:
        await self.setup()
        await self.subscriber_link.psubscribe([b"booking:*", b"user:*:*"])
        await self.publish("booking:created", "1")
        await self.publish("other", "2")
        await self.publish("user:7:notification:new", "3")
        expected = [
            (b"booking:*", b"booking:created", b"1"),
            (b"user:*:*", b"user:7:notification:new", b"3"),
        ]
        self.assertEqual(await self.heard(2), expected)
        await self.subscriber_link.punsubscribe([b"booking:*"])
        await self.publish("booking:created", "4")
        await self.publish("user:7:x", "5")
        self.assertEqual((await self.heard(3))[2:], [(b"user:*:*", b"user:7:x", b"5")])

    async def test_acknowledgements(self) -> None:
        """Many channels at once, with other commands among them: each Deferred fires for its own."""
        await self.setup()
        link = self.subscriber_link
        many = [f"channel:{number}".encode() for number in range(1200)]
        order: list[str] = []
        waiting = [
            link.subscribe(many).addCallback(lambda _: order.append("many")),
            link.psubscribe([b"p*"]).addCallback(lambda _: order.append("pattern")),
            link.unsubscribe(many[:600]).addCallback(lambda _: order.append("unsubscribed")),
            link.subscribe([b"one"]).addCallback(lambda _: order.append("one")),
            link.subscribe([]).addCallback(lambda _: order.append("none")),
        ]
        await gatherResults(waiting)
        self.assertEqual(order, ["none", "many", "pattern", "unsubscribed", "one"])
        self.assertEqual(
            await self.receivers("channel:0", "channel:599", "channel:600", "one"), [0, 0, 1, 1]
        )
        self.assertEqual(len(link.channels), 601)
        await self.publish("one", "x")
        self.assertEqual(await self.heard(1), [(b"one", b"x")])

    async def test_acknowledged_before_heard(self) -> None:
        """What is published after the acknowledgement is heard, and nothing after the opposite one."""
        await self.setup()
        link = self.subscriber_link
        for number in range(100):
            await link.subscribe([b"channel"])
            publishing = [self.publish("channel", f"{number}:{part}") for part in range(3)]
            for one in publishing:
                await one
            await link.unsubscribe([b"channel"])
            # The publications came before the acknowledgement, on the same connection.
            self.assertEqual(len(self.messages), 3 * (number + 1))

    async def test_unsubscribing_amid_messages(self) -> None:
        """Unsubscribing while messages pour in loses no acknowledgement."""
        await self.setup()
        link = self.subscriber_link
        await link.subscribe([b"a", b"b"])
        flood = "for i = 1, 2000 do redis.call('PUBLISH', 'a', i) redis.call('PUBLISH', 'b', i) end"
        flooding = self.server.command("EVAL", flood, 0)
        again = self.server.command("EVAL", flood, 0)
        left = link.unsubscribe([b"a"])
        await flooding
        await left
        await again
        joined = link.subscribe([b"a"])
        await joined
        await self.publish("a", "end")
        await self.reach(lambda: (b"a", b"end") in self.messages, "the last message")
        self.assertEqual(
            [data for channel, data in self.messages if channel == b"b"],
            [str(number + 1).encode() for number in range(2000)] * 2,
        )

    async def test_failing_callback(self) -> None:
        """An exception in a callback is logged, and costs no message and no connection."""
        await self.start_server()

        def fail(channel: bytes, data: bytes) -> None:
            self.messages.append((channel, data))
            raise ZeroDivisionError

        def fail_pattern(pattern: bytes, channel: bytes, data: bytes) -> None:
            fail(channel, data)

        link = await self.subscriber(on_message=fail, on_pmessage=fail_pattern)
        await link.subscribe([b"channel"])
        await link.psubscribe([b"c*"])
        await self.publish("channel", "1")
        await self.publish("channel", "2")
        await self.heard(4)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)
        self.assertEqual(self.counts.downs, 0)

    async def test_loss(self) -> None:
        """After a loss all is subscribed again before the link is up, within half a second."""
        await self.start_server()
        states: list[tuple[str, int]] = []
        link = await self.subscriber(
            on_up=lambda link: states.append(("up", len(link.channels))),
            on_down=lambda link: states.append(("down", len(link.channels))),
        )
        channels = [f"channel:{number}".encode() for number in range(1500)]
        await link.subscribe(channels)
        await link.psubscribe([b"p*"])
        await link.unsubscribe(channels[:1])
        for killed in (1, 2, 3):
            await self.server.command("CLIENT", "KILL", "TYPE", "pubsub")
            await self.reach(lambda killed=killed: self.counts.downs == killed, "the link to notice", 0.5)
            await self.reach(lambda: self.counts.ups > self.counts.downs, "the link to be up", 0.5)
            self.assertEqual(await self.receivers("channel:0", "channel:1", "channel:1499"), [0, 1, 1])
            self.assertEqual(await self.server.command("PUBSUB", "NUMPAT"), 1)
        self.assertEqual(states, [("up", 0), *[("down", 1499), ("up", 1499)] * 3])

    async def test_changes_while_down(self) -> None:
        """While it is not up subscribing is refused, and unsubscribing is done at once."""
        await self.setup()
        link = self.subscriber_link
        await link.subscribe([b"a", b"b"])
        self.server.freeze()
        waiting = link.subscribe([b"c"])
        with self.assertRaises(BrokerUnavailable):
            await waiting
        self.failureResultOf(link.subscribe([b"d"]), BrokerUnavailable)
        self.successResultOf(link.unsubscribe([b"a"]))
        self.server.thaw()
        await self.reach(lambda: link.up, "the link to be up", 3)
        self.assertEqual(await self.receivers("a", "b", "c", "d"), [0, 1, 0, 0])

    async def test_frozen_under_traffic(self) -> None:
        """A server that freezes in the middle of messages is noticed within the bound."""
        await self.setup()
        await self.subscriber_link.subscribe([b"channel"])
        await self.publish("channel", "x")
        await self.heard(1)
        self.server.freeze()
        await self.reach(lambda: not self.subscriber_link.up, "the link to notice", 3)
        self.server.thaw()
        await self.reach(lambda: self.subscriber_link.up, "the link to be up", 3)

    async def test_forbidden_channel(self) -> None:
        """What the access control list forbids is an error, and is not subscribed later."""
        await self.start_server(users=("user default on nopass ~* resetchannels &mine:* +@all",))
        link = await self.subscriber()
        with self.assertRaises(RedisError) as caught:
            await link.subscribe([b"mine:1", b"yours:1"])
        self.assertEqual(caught.exception.kind, "NOPERM")
        await link.subscribe([b"mine:2"])
        self.assertEqual(link.channels, {b"mine:2"})
        self.assertEqual(await self.receivers("mine:1", "mine:2"), [0, 1])

    async def test_sharded(self) -> None:
        """Sharded pub/sub, which one server has too."""
        await self.start_server()
        link = await self.subscriber(sharded=True)
        await link.subscribe([b"a", b"b"])
        await self.server.command("SPUBLISH", "a", "007")
        self.assertEqual(await self.heard(1), [(b"a", b"007")])
        await link.unsubscribe([b"a"])
        self.assertEqual(await self.server.command("PUBSUB", "SHARDNUMSUB", "a", "b"), [b"a", 0, b"b", 1])


def _array(*parts: bytes | int) -> bytes:
    made = [
        b":%d\r\n" % part if isinstance(part, int) else b"$%d\r\n%s\r\n" % (len(part), part)
        for part in parts
    ]
    return b"*%d\r\n%s" % (len(parts), b"".join(made))


class ConnectionTests(SynchronousTestCase):
    """The protocol by itself: what the server sends, byte by byte."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connection = SubscriberConnection(self.clock, 1.0)
        self.transport = StringTransport()
        self.events: list[object] = []
        self.connection.on_message = lambda *message: self.events.append(message)
        self.connection.on_pmessage = lambda *message: self.events.append(message)
        self.connection.on_dropped = lambda channel: self.events.append(("dropped", channel))
        self.connection.on_lost = self.events.append
        self.connection.makeConnection(self.transport)

    def test_byte_by_byte(self) -> None:
        """Replies, acknowledgements and messages in any mixture, cut anywhere."""
        connection, events = self.connection, self.events
        ping = connection.command("PING").addCallback(events.append)
        connection.change(b"ssubscribe", [b"a", b"b"]).addCallback(lambda _: events.append("both"))
        again = connection.command("PING").addCallback(events.append)
        connection.change(b"sunsubscribe", [b"a"]).addCallback(lambda _: events.append("left"))
        stream = (
            b"+PONG\r\n"
            + _array(b"ssubscribe", b"a", 1)
            + _array(b"smessage", b"a", b"1")
            + _array(b"ssubscribe", b"b", 2)
            + _array(b"pmessage", b"*", b"c", b"2")
            # the server drops b by itself, amid what was asked
            + _array(b"sunsubscribe", b"b", 1)
            + _array(b"pong", b"")
            + _array(b"message", b"c", b"3")
            + _array(b"sunsubscribe", b"a", 0)
        )
        for position in range(len(stream)):
            connection.dataReceived(stream[position : position + 1])
        self.assertEqual(
            events,
            [
                *(b"PONG", (b"a", b"1"), "both", (b"*", b"c", b"2"), ("dropped", b"b")),
                *([b"pong", b""], (b"c", b"3"), "left"),
            ],
        )
        self.assertTrue(ping.called and again.called)

    def test_error(self) -> None:
        """An error fails the whole command that it answers."""
        first = self.connection.change(b"ssubscribe", [b"a", b"b"])
        second = self.connection.change(b"ssubscribe", [b"c"])
        self.connection.dataReceived(b"-MOVED 7 127.0.0.1:7000\r\n" + _array(b"ssubscribe", b"c", 1))
        self.assertEqual(self.failureResultOf(first, RedisError).value.kind, "MOVED")
        self.successResultOf(second)

    def test_not_redis(self) -> None:
        """Who does not speak Redis, or answers unasked, is left."""
        for rubbish in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n", b"$-5\r\n"):
            self.setUp()
            waiting = self.connection.command("PING") if rubbish[:1] == b"H" else None
            self.connection.dataReceived(rubbish)
            self.assertEqual(self.events, ["protocol"], rubbish)
            self.assertTrue(self.transport.disconnecting)
            if waiting is not None:
                self.failureResultOf(waiting, BrokerUnavailable)

    def test_nothing_after_the_end(self) -> None:
        """A callback that drops the connection hears no further message."""
        self.connection.on_message = lambda *message: self.connection.abort("enough")
        self.connection.dataReceived(_array(b"message", b"a", b"1") * 3)
        self.assertEqual(self.events, ["enough"])

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds * 64)):
            self.clock.advance(1 / 64)

    def test_idle(self) -> None:
        """An idle connection pings each second; one without an answer is dropped in time."""
        self.advance(1.3)
        self.assertIn(b"PING", self.transport.value())
        self.connection.dataReceived(b"+PONG\r\n")
        self.advance(1.3)
        self.assertEqual(self.events, [])
        self.assertEqual(self.transport.value().count(b"PING"), 2)
        self.advance(1.4)
        self.assertEqual(self.events, ["timeout"])

    def test_answer_behind_messages(self) -> None:
        """As long as messages come the server lives, however long the answer behind them takes."""
        waiting = self.connection.change(b"subscribe", [b"a"])
        for _ in range(20):
            self.advance(0.5)
            self.connection.dataReceived(_array(b"message", b"b", b"x"))
        self.assertNoResult(waiting)
        self.advance(1.5)
        self.failureResultOf(waiting, BrokerUnavailable)

    def test_own_standstill(self) -> None:
        """When it was our process that stood still, the server gets its time anew."""
        waiting = self.connection.change(b"subscribe", [b"a"])
        self.clock.advance(30)
        self.assertEqual(self.events, [])
        self.connection.dataReceived(_array(b"subscribe", b"a", 1))
        self.successResultOf(waiting)
