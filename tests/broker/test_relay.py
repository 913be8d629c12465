"""The relay over a real Redis, and each of its rules in the interleaving that needs it."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import fail
from twisted.internet.task import deferLater

from realtime.broker.relay import ASK, HELD, LEASE, LOST, SILENT, State
from realtime.errors import BrokerUnavailable

from ..redis_servers import until
from .relays import PREFIX, RelayCase, RelayNode


def publishing(verdict: str) -> Any:
    """A gate for what is published; all else passes."""
    return lambda name, args: verdict if name in ("publish", "confirm") else "pass"


async def holds(node: RelayNode, count: int) -> None:
    async def does() -> bool:
        return node.relay.held == count

    await until(does, f"{node.bus.node} to hold {count}; it holds {node.relay.held}")


async def quiet(node: RelayNode) -> None:
    """Wait until its probe has come back, and it asks nothing."""

    async def is_quiet() -> bool:
        relay = node.relay
        return relay._waiting is None and relay._probe_heard >= relay._probe_wanted

    await until(is_quiet, "the probe to come back")


class RelayTests(RelayCase):
    """Every plain message becomes one publication."""

    async def test_one_node(self) -> None:
        await self.begin("a")
        for number in range(50):
            await self.say("booking:confirmed", userId="alice", n=number)
        await self.comes(range(50))
        self.assertEqual(self.delivered()[0].event, "booking:confirmed")
        self.assertEqual(self.nodes[0].relay.held, 0)

    async def test_three_nodes(self) -> None:
        """One of them publishes, and all of them forget."""
        await self.begin("a", "b", "c")
        for number in range(200):
            await self.say("ticket:sold", eventId=number % 5, n=number)
        await self.comes(range(200))
        self.assertEqual([node.relay.held for node in self.nodes], [0, 0, 0])
        self.assertEqual(self.nodes[0].counted("ticket", "accepted"), 200)
        self.assertEqual(
            [node.relay.state for node in self.nodes], [State.HOLDER, State.LISTENER, State.LISTENER]
        )


class DeathTests(RelayCase):
    """Whoever dies, and whenever."""

    async def test_between_hearing_and_publishing(self) -> None:
        a, b = await self.begin("a", "b")
        a.bus.gate = publishing("hold")
        for number in range(3):
            await self.say("system:note", n=number)
        await holds(a, 3)
        await holds(b, 3)
        await a.die()
        await self.say("system:note", n=3)
        await b.stands(State.HOLDER)
        await self.say("system:note", n=4)
        await self.comes(range(5))
        self.assertEqual(b.relay.held, 0)

    async def test_after_publishing_before_the_confirmation_is_heard(self) -> None:
        """With the lease alone, without the round trip, it would be published again."""
        a, b = await self.begin("a", "b")
        a.bus.gate = publishing("hold")
        await self.say("system:note", n=0)
        await holds(b, 1)
        await quiet(b)
        b.listening.freeze()
        a.bus.release()
        await self.comes([0])
        await a.die()
        await self.server.command("DEL", f"{PREFIX}relay", f"{PREFIX}listeners")
        b.relay._ask()
        await b.stands(State.TAKING)
        await self.settle()
        self.assertEqual((b.relay.state, b.relay.held), (State.TAKING, 1))
        b.listening.thaw()
        await b.stands(State.HOLDER)
        await self.say("system:note", n=1)
        await self.comes([0, 1])

    async def test_the_frozen_holder(self) -> None:
        """Its token is worth nothing any more when it goes on."""
        a, b = await self.begin("a", "b")
        a.bus.gate = lambda name, args: "hold"
        await self.say("system:note", n=0)
        await holds(a, 1)
        a.listening.freeze()
        await b.stands(State.HOLDER)
        await self.comes([0])
        a.bus.release()
        await a.stands(State.LISTENER)
        a.listening.thaw()
        await self.say("system:note", n=1)
        await self.comes([0, 1])
        await holds(a, 0)

    async def test_one_of_two_equal_ones(self) -> None:
        """The confirmation of one is not that of the other."""
        a, b = await self.begin("a", "b")
        a.bus.gate = publishing("hold")
        for number in (7, 7, 8, 7):
            await self.say("system:note", n=number)
        await holds(b, 4)
        await holds(a, 4)
        a.bus.release_first()
        await holds(b, 3)
        await a.die()
        await b.stands(State.HOLDER)
        await self.comes([7, 7, 8, 7])

    async def test_a_node_that_begins_between_message_and_confirmation(self) -> None:
        """What is confirmed there is not the equal message that it has heard itself."""
        (a,) = await self.begin("a")
        a.bus.gate = publishing("hold")
        await self.say("system:note", n=7)
        await holds(a, 1)
        b = await self.node("b")
        await b.stands(State.LISTENER)
        self.assertEqual(b.relay.held, 0)
        await self.say("system:note", n=7)
        await holds(a, 2)
        await holds(b, 1)
        a.bus.release_first()
        await holds(a, 1)
        await self.settle()
        self.assertEqual(b.relay.held, 1)
        await a.die()
        await b.stands(State.HOLDER)
        await self.comes([7, 7])

    async def test_two_die_one_after_the_other(self) -> None:
        a, b, c = await self.begin("a", "b", "c")
        a.bus.gate = b.bus.gate = publishing("hold")
        await self.say("system:note", n=0)
        await holds(c, 1)
        await a.die()
        await b.stands(State.HOLDER)
        await self.say("system:note", n=1)
        await holds(c, 2)
        await b.die()
        await c.stands(State.HOLDER)
        await self.comes([0, 1])


class LeaseTests(RelayCase):
    """Who publishes."""

    async def test_released_at_the_end(self) -> None:
        """What was heard is published first; the next one need not wait for the lease to run out."""
        a, b = await self.begin("a", "b")
        a.bus.gate = publishing("hold")
        for number in range(3):
            await self.say("system:note", n=number)
        await holds(a, 3)
        # It asks because it hears of it, or not at all.
        b.relay._asking.stop()
        stopped = a.relay.stop()
        a.bus.release()
        await stopped
        await b.stands(State.HOLDER)
        await self.say("system:note", n=3)
        await self.comes(range(4))

    async def test_the_longest_standing(self) -> None:
        """It takes the lease, although another one asks first."""
        a, b, c = await self.begin("a", "b", "c")
        b.relay._asking.stop()
        b.bus.gate = lambda name, args: "hold" if name == "lease" else "pass"
        await a.relay.stop()
        c.relay._ask()
        await self.settle()
        self.assertEqual(c.relay.state, State.LISTENER)
        b.bus.release()
        await b.stands(State.HOLDER)

    async def test_one_that_does_not_ask(self) -> None:
        """It is passed over, and what was published meanwhile is not lost."""
        a, b, c = await self.begin("a", "b", "c")
        b.bus.gate = lambda name, args: "hold" if name == "lease" else "pass"
        await a.relay.stop()
        await self.say("system:note", n=0)
        await deferLater(reactor, LEASE + 2 * ASK)
        self.assertEqual(c.relay.state, State.LISTENER, "it may be only slow")
        await self.comes([0], SILENT)
        self.assertEqual(c.relay.state, State.HOLDER)
        b.bus.release()
        await self.say("system:note", n=1)
        await self.comes([0, 1])
        await b.stands(State.LISTENER)

    async def test_gone(self) -> None:
        """A holder without a listening connection is not waited for; one that is only silent is."""
        a, b = await self.begin("a", "b")
        a.relay._asking.stop()
        b.relay._asking.stop()
        await quiet(a)
        for state in (State.LISTENER, State.HOLDER):
            if state is State.HOLDER:
                a.relay._asking.start(60, now=False)
                await a.die()
            await quiet(b)
            seconds, micros = await self.server.command("TIME")
            ends = int(seconds) * 1000 + int(micros) // 1000 + 900
            await self.server.command("HSET", f"{PREFIX}relay", "ends", ends)
            b.relay._ask()
            await quiet(b)
            await b.stands(state)

    async def test_all_fell_silent_at_once(self) -> None:
        """Redis stood still: who asks first afterwards does not pass over who has heard more."""
        a, b = await self.begin("a", "b")
        a.bus.gate = publishing("hold")
        await self.say("system:note", n=0)
        await holds(b, 1)
        c = await self.node("c")
        await c.stands(State.LISTENER)
        b.bus.gate = c.bus.gate = lambda name, args: "hold" if name == "lease" else "pass"
        await a.die()
        await deferLater(reactor, LEASE)
        await self.say("system:note", n=1)
        c.bus.release()
        await self.settle()
        self.assertEqual(c.relay.state, State.LISTENER)
        b.bus.release()
        await b.stands(State.HOLDER)
        await self.comes([0, 1])

    async def test_it_was_only_slow(self) -> None:
        """One that was passed over holds what the holder can't know: it takes the lease for that."""
        a, b = await self.begin("a", "b")
        a.bus.gate = publishing("hold")
        await self.say("system:note", n=0)
        await holds(b, 1)
        b.listening.freeze()
        b.bus.gate = lambda name, args: "hold"
        c = await self.node("c")
        await c.stands(State.LISTENER)
        await a.die()
        await c.stands(State.HOLDER)
        await self.say("system:note", n=1)
        await self.comes([1])
        b.listening.thaw()
        b.bus.release()
        await b.stands(State.HOLDER)
        await c.stands(State.LISTENER)
        await self.say("system:note", n=2)
        await self.comes([1, 0, 2])
        await holds(b, 0)
        await holds(c, 0)

    async def test_deaf(self) -> None:
        """A holder whose listening connection is half open gives the lease up, and listens anew."""
        a, b = await self.begin("a", "b")
        a.listening.freeze()
        for number in range(5):
            await self.say("system:note", n=number)
        await b.stands(State.HOLDER)
        await self.comes(range(5))

        async def dropped() -> bool:
            return bool(a.listening.dropped)

        await until(dropped, "a to give its connection up")
        await a.stands(State.LISTENER)
        await self.say("system:note", n=5)
        await self.comes(range(6))
        await holds(a, 0)

    async def test_not_deaf(self) -> None:
        """While all of Redis is away, nothing is to be learned of one connection."""
        (a,) = await self.begin("a")
        a.listening.freeze()
        a.bus.command = lambda *args: fail(BrokerUnavailable())  # type: ignore[method-assign]
        await deferLater(reactor, LEASE + 3 * ASK)
        self.assertLess(a.relay._probe_due, reactor.seconds())
        self.assertEqual(a.listening.dropped, [])
        a.listening.thaw()
        await self.say("system:note", n=0)
        await self.comes([0])

    async def test_cut(self) -> None:
        """The only node publishes what it has heard, and listens anew."""
        (a,) = await self.begin("a")
        a.bus.gate = publishing("hold")
        for number in range(3):
            await self.say("system:note", n=number)
        await holds(a, 3)
        a.listening.cut()
        await a.stands(State.LEAVING)
        a.bus.release()
        await self.comes(range(3))
        await a.stands(State.HOLDER)
        await self.say("system:note", n=3)
        await self.comes(range(4))
        self.assertEqual([a.relay.lost(reason) for reason in LOST], [0, 0, 0])

    async def test_cut_while_another_holds(self) -> None:
        """Standing begins anew: what came meanwhile is not its business."""
        a, b, c = await self.begin("a", "b", "c")
        b.bus.gate = lambda name, args: "hold" if name == "listen" else "pass"
        b.listening.cut()

        async def marks() -> bool:
            return bool(b.bus.kept)

        await until(marks, "b to hear all again, and to mark from where")
        await self.say("system:note", n=0)
        await self.comes([0])
        self.assertEqual((b.relay.held, b.relay.causes()), (0, ["redis_listener_unavailable"]))
        b.bus.release()
        await b.stands(State.LISTENER)
        self.assertEqual(b.relay.causes(), [])
        await a.relay.stop()
        await c.stands(State.HOLDER)
        await self.comes([0])


class FailureTests(RelayCase):
    """Calls of which it is not known whether they were done."""

    async def test_not_done(self) -> None:
        a, b = await self.begin("a", "b")
        a.bus.gate = publishing("drop")
        for number in range(3):
            await self.say("system:note", n=number)
        await holds(a, 3)
        await self.settle()
        a.bus.release()
        await self.comes(range(3))
        await holds(b, 0)

    async def test_done(self) -> None:
        """The answer was lost: it is not published again."""
        a, b = await self.begin("a", "b")
        a.bus.gate = publishing("lose")
        for number in range(3):
            await self.say("system:note", n=number)
        await holds(b, 0)
        a.bus.release()
        await self.say("system:note", n=3)
        await self.comes(range(4))

    async def test_done_later(self) -> None:
        """It was on its way when the connection was lost, and comes after the repetition."""
        a, _ = await self.begin("a", "b")
        a.bus.gate = publishing("late")
        await self.say("system:note", n=0)
        await holds(a, 1)

        async def kept() -> bool:
            return bool(a.bus.kept)

        await until(kept, "the call to be on its way")
        a.bus.gate = lambda name, args: "pass"
        await self.comes([0])
        a.bus.release()
        await self.settle()
        self.assertEqual(a.bus.late, [[b"FENCED"]])
        await self.comes([0])

    async def test_the_data_is_lost(self) -> None:
        """With the log the lease is gone, and those who listen go on."""
        a, b = await self.begin("a", "b")
        await self.say("system:note", n=0)
        await self.comes([0])
        await self.server.command("FLUSHALL")
        await self.say("system:note", n=1)
        await self.say("system:note", n=2)
        await self.comes(range(3))
        await holds(b, 0)
        await a.stands(State.HOLDER)

    async def test_redis_stands_still(self) -> None:
        """What was published meanwhile waits in Redis, and is heard: nobody hangs up on it too soon."""
        a, b = await self.begin("a", "b", timeout=1.0)
        await self.say("system:note", n=0)
        service = await self.server.client()
        self.server.freeze()
        sent = [
            service.command("PUBLISH", "system:note", json.dumps({"n": number})) for number in range(1, 4)
        ]
        await deferLater(reactor, 3.0)
        self.server.thaw()
        self.assertEqual([await one for one in sent], [2, 2, 2])
        service.transport.abortConnection()
        await self.comes(range(4))
        self.assertEqual(a.listening.dropped + b.listening.dropped, [])
        await holds(a, 0)
        await holds(b, 0)

    async def test_redis_restarts(self) -> None:
        """They listen anew, and one of them holds the lease, without anybody's help."""
        a, b = await self.begin("a", "b", timeout=1.0)
        await self.say("system:note", n=0)
        await self.comes([0])
        await self.server.restart()
        await self.hear()
        await a.stands()
        await b.stands()
        await self.say("system:note", n=1)
        await self.comes([1])
        await holds(a, 0)
        await holds(b, 0)

    async def test_overflow(self) -> None:
        a, b = await self.begin("a", "b", held=3)
        self.assertGreater(HELD, 10_000)
        a.bus.gate = publishing("hold")
        for number in range(5):
            await self.say("system:note", n=number)
        await holds(a, 3)
        a.bus.release()
        await self.comes(range(3))
        self.assertEqual((a.relay.lost("overflow"), b.relay.lost("overflow")), (2, 2))

    async def test_passed_over(self) -> None:
        """What a live holder does not confirm is not held for ever."""
        _, b = await self.begin("a", "b", held_periods=1)
        b.relay.pmessage(b"system:*", b"system:note", b"{}")
        self.assertEqual(b.relay.held, 1)
        await holds(b, 0)
        self.assertEqual(b.relay.lost("passed"), 1)


class MessageTests(RelayCase):
    """What becomes of a message."""

    async def test_refused(self) -> None:
        """Refused is dealt with: nobody holds it, and each reason is counted."""
        a, b = await self.begin("a", "b")
        await self.say("booking:confirmed", n=0)
        for data in ("{", "[]", "7", "", b"\xff", "[" * 5000, '{"userId": {}}', "x" * 300_000):
            await self.server.command("PUBLISH", "booking:confirmed", data)
        for channel in ("user::x", b"event:\xff:x", "room:x", "system:" + "x" * 400, "user:offline"):
            await self.server.command("PUBLISH", channel, "{}")
        await self.say("system:note", n=1)
        await self.comes([1])
        await holds(a, 0)
        await holds(b, 0)
        for kind, outcome, count in (
            ("booking", "publish.no_owner", 1),
            ("booking", "publish.invalid", 7),
            ("booking", "message.too_large", 1),
            ("user", "publish.channel_unknown", 1),
            ("user", "publish.no_owner", 1),
            ("event", "publish.channel_unknown", 1),
            ("room", "publish.channel_unknown", 1),
            ("system", "publish.channel_unknown", 1),
        ):
            self.assertEqual(a.counted(kind, outcome), count, (kind, outcome))
        self.assertEqual(b.counted("booking", "publish.invalid"), 0)

    async def test_repeated(self) -> None:
        """The messageId of a payload holds for its channel, and over all ways in."""
        a, b = await self.begin("a", "b")
        await self.say("system:note", messageId="m", n=0)
        await self.say("system:note", messageId="m", n=1)
        await self.say("system:other", messageId="m", n=2)
        await self.server.command(
            *("XADD", "realtime:events", "*", "channel", "system:note", "data", '{"n":3}'),
            *("messageId", "m"),
        )
        await self.comes([0, 2])
        answer = await b.ingest.publish("system:note", b'{"n":4}', "m")
        self.assertTrue(answer.repeated)
        answer = await b.ingest.publish("system:note", b'{"n":5,"messageId":"m"}')
        self.assertFalse(answer.repeated)
        await self.comes([0, 2, 5])
        await holds(a, 0)
        await holds(b, 0)

        async def counted() -> bool:
            return a.counted("system", "repeated") == 2

        await until(counted, "both to be counted")

    async def test_a_bad_message_id(self) -> None:
        a, _ = await self.begin("a", "b")
        for bad in ("", "x" * 129, [1], True, "\n"):
            await self.say("system:note", messageId=bad, n=0)
        await self.say("system:note", messageId=17, n=1)
        await self.say("system:note", messageId="17", n=2)
        await self.say("system:note", messageId=None, n=3)
        await self.comes([1, 3])
        self.assertEqual(a.counted("system", "publish.invalid"), 5)

    async def test_order(self) -> None:
        """What has to be looked up is waited for by all that come after it."""
        (a,) = await self.begin("a")
        a.slow = True
        await self.say("system:note", n=0)
        await self.say("user:online", userId="alice", n=1)
        await self.say("system:note", n=2)
        await self.say("user:offline", userId="alice", n=3)
        await self.say("system:note", n=4)

        async def asked() -> bool:
            return len(a.lookups) == 2

        await until(asked, "both to be looked up")
        await self.comes([0])
        a.lookups[1].callback(frozenset({"y"}))
        await self.comes([0])
        a.lookups[0].callback(frozenset({"x"}))
        await self.comes(range(5))
        self.assertEqual(self.delivered()[1].audience.rooms, {"x"})

    async def test_order_where_scripts_are_lost(self) -> None:
        """What comes while the first is sent once more does not overtake the second."""
        (a,) = await self.begin("a")
        await self.server.command("SCRIPT", "FLUSH")
        connection = a.broker._links.commands._connection
        settle, refused = connection._settle, []

        def settles(pending: Any, reply: Any) -> None:
            settle(pending, reply)
            if isinstance(reply, Exception):
                refused.append(reply)
                if len(refused) == 1:
                    a.relay.pmessage(b"system:*", b"system:note", b'{"n":2}')

        connection._settle = settles
        for number in range(2):
            a.relay.pmessage(b"system:*", b"system:note", b'{"n":%d}' % number)
        await self.comes(range(3))
        self.assertGreaterEqual(len(refused), 1)
        self.assertEqual(a.relay.held, 0)

    async def test_ours(self) -> None:
        """What this service tells others of users does not come in again."""
        a, _ = await self.begin("a", "b")
        ours = json.dumps({"userId": "alice", "n": 0, "source": "realtime"}, separators=(",", ":"))
        for channel in ("user:online", "user:offline", "user:status_change", "socket:connect"):
            await self.server.command("PUBLISH", channel, ours)
        await self.server.command("PUBLISH", "user:alice:note", ours.replace("0", "1"))
        await self.say("user:online", userId="alice", n=2, source="other")
        await self.comes([1, 2])
        self.assertEqual(a.counted("user", "accepted"), 2)

    async def test_patterns(self) -> None:
        """Each channel comes once, also of services that were named."""
        await self.begin("a", services=["invoice"])
        self.assertEqual(await self.say("invoice:paid", userId="alice", n=0), 1)
        self.assertEqual(await self.say("invoices:paid", userId="alice", n=1), 0)
        await self.comes([0])
        self.assertEqual(self.delivered()[0].event, "invoice:paid")

    async def test_many(self) -> None:
        """More than may be under way, with a change of the holder in between."""
        a, b, c = await self.begin("a", "b", "c")
        for number in range(1500):
            self.server._client.command("PUBLISH", f"room:r{number % 7}:note", json.dumps({"n": number}))
            if number == 700:
                await deferLater(reactor, 0.02)
                await a.die()
        await self.comes(range(1500), 30)
        self.assertEqual((b.relay.held, c.relay.held), (0, 0))
