"""Tests for realtime.receipts: who got a publication, by every protocol, on a whole node."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime import receipts as module
from realtime.broker.receipts import Marks
from realtime.errors import BrokerUnavailable
from realtime.ingress.publish import Options
from realtime.ingress.shapes import receipt_told
from realtime.messages import Audience, Publication, Sequence
from realtime.metrics import Metrics
from realtime.receipts import AGAIN, GATHER, Receipts

from .house import HouseCase, PlainClient
from .test_limits import connection
from .wampclient import SERIALIZERS, WampClient

BOOKING = {"userId": "alice"}
WAITING = Options(receipt=True)


class ReceiptCase(HouseCase):
    """A node, and alice's clients."""

    def setUp(self) -> None:
        self.node = self.house(rate_limit_max_connections=50, receipt_timeout=60.0)

    def publish(self, channel: str = "booking:created", **data: Any) -> str:
        """Publish with a receipt; the publication's id."""
        given = json.dumps({**BOOKING, **data}).encode()
        done = self.node.node.ingest.publish(channel, given, None, WAITING)
        return self.successResultOf(done).id

    def receipt(self, name: str) -> dict[str, Any]:
        """What the API says of a receipt."""
        self.node.clock.advance(GATHER)
        (found,) = self.successResultOf(self.node.node.receipt_store.read([name]))
        assert found is not None
        told = receipt_told(found, self.node.wall())
        return {
            "counts": tuple(getattr(told.counts, name) for name in told.counts.__struct_fields__),
            "states": sorted((one.user_id, one.state) for one in told.connections),
        }

    def assertReceipt(self, name: str, counts: tuple[int, ...], *states: str) -> None:
        found = self.receipt(name)
        self.assertEqual(found["counts"], counts)
        self.assertEqual([state for _, state in found["states"]], sorted(states))


class ProtocolTests(ReceiptCase):
    """Each protocol asks for an acknowledgement, and takes it, in its own way."""

    def test_socketio(self) -> None:
        """The id of the acknowledgement is the number in the sequence; then the offset moves on."""
        alice = self.node.client("alice")
        before = len(alice.outlet.frames)
        name = self.publish()
        (frame,) = alice.outlet.frames[before:]
        number = self.node.node.broker.sequence().number
        text = frame.text.decode()
        self.assertTrue(text.startswith(f'42{number}["booking:created",{{"userId": "alice",'), text)
        offset = str(self.node.node.broker.sequence())
        self.assertTrue(text.endswith(f'}}]42["system:position",{{}},"{offset}"]'), text)
        self.assertEqual(frame.polling.decode().split("\x1e")[1], f'42["system:position",{{}},"{offset}"]')
        self.assertReceipt(name, (1, 1, 0, 0), "written")
        alice.receiver.received(f"3{number}[]")
        self.assertReceipt(name, (1, 1, 1, 0), "acknowledged")
        self.assertEqual(alice.news()[-1], ["system:position", {}])
        self.assertEqual(alice.offset, offset)

    def test_socketio_without_offsets(self) -> None:
        """Who takes no offsets gets no ``system:position`` either."""
        alice = self.node.client("alice", recovery=False)
        before = len(alice.outlet.frames)
        name = self.publish()
        (frame,) = alice.outlet.frames[before:]
        number = self.node.node.broker.sequence().number
        self.assertTrue(frame.text.startswith(b"42%d[" % number))
        self.assertTrue(frame.text.endswith(b"}]"))
        alice.receiver.received(f"3{number}[]")
        self.assertReceipt(name, (1, 1, 1, 0), "acknowledged")

    def test_one_encoding(self) -> None:
        """All receivers of an encoding get the same frame."""
        one, other = self.node.client("alice"), self.node.client("alice")
        self.publish()
        self.assertIs(one.outlet.frames[-1], other.outlet.frames[-1])

    def test_plain(self) -> None:
        alice = PlainClient(self.node, "alice")
        alice.news()
        name = self.publish()
        (event,) = alice.news()
        self.assertEqual(event["event"], "booking:created")
        self.assertEqual(event["receipt"], int(event["offset"].rpartition(":")[2]))
        self.assertEqual(alice.call("ack", {"id": event["receipt"]}), {"ok": True})
        self.assertReceipt(name, (1, 1, 1, 0), "acknowledged")

    def test_wamp(self) -> None:
        """By all serializers; who is not subscribed to it does not get it, and is no target."""
        clients = [WampClient(self.node, "alice", name) for name in SERIALIZERS]
        WampClient(self.node, "alice").subscribe("room.42.message")
        for client in clients:
            client.subscribe("booking.created")
            client.events()
        name = self.publish()
        self.assertReceipt(name, (3, 3, 0, 0), *["written"] * 3)
        for client in clients:
            (event,) = client.events()
            client.call("ack", id=event.publication)
        self.assertReceipt(name, (3, 3, 3, 0), *["acknowledged"] * 3)

    def test_without_a_receipt_nothing_is_asked(self) -> None:
        alice, plain = self.node.client("alice"), PlainClient(self.node, "alice")
        plain.news()
        self.node.publish("booking:created", BOOKING)
        self.assertTrue(alice.outlet.packets()[-1].startswith('42["booking:created"'))
        self.assertNotIn("receipt", plain.news()[0])


class AcknowledgementTests(ReceiptCase):
    """What is taken for an acknowledgement, and what is not."""

    def test_only_who_was_asked(self) -> None:
        """Another's, another number's and a second one change nothing."""
        alice, bob = self.node.client("alice"), self.node.client("bob")
        name = self.publish()
        number = self.node.node.broker.sequence().number
        bob.receiver.received(f"3{number}[]")
        alice.receiver.received(f"3{number + 1}[]")
        self.assertReceipt(name, (1, 1, 0, 0), "written")
        for _ in range(3):
            alice.receiver.received(f"3{number}[]")
        self.assertReceipt(name, (1, 1, 1, 0), "acknowledged")

    def test_asked_for_is_free(self) -> None:
        """It does not count against the rate limit; what nobody asked for does, and is refused past it."""
        house = self.house(rate_limit_max_messages=3)
        alice, plain = house.client("alice"), PlainClient(house, "alice")
        for _ in range(20):
            house.node.ingest.publish("booking:created", b'{"userId":"alice"}', None, WAITING)
            number = house.node.broker.sequence().number
            alice.receiver.received(f"3{number}[]")
            self.assertEqual(plain.call("ack", {"id": number}), {"ok": True})
        self.assertEqual(alice.heard("system:error"), [])
        for _ in range(5):
            alice.receiver.received(f"3{number}[]")
        self.assertEqual(alice.heard("system:error")[0]["code"], "rate.limited")
        self.assertEqual(plain.call("ack", {"id": number})["error"]["code"], "rate.limited")

    def test_bad_ones(self) -> None:
        plain = PlainClient(self.node, "alice")
        for data in ({}, {"id": "1"}, {"id": -1}, [], 5):
            self.assertEqual(plain.call("ack", data)["error"]["code"], "message.invalid")
        self.assertEqual(PlainClient(self.node).call("ack", {"id": 1})["error"]["code"], "auth.required")


class StateTests(ReceiptCase):
    """How far it has come."""

    def test_what_waits_is_not_written(self) -> None:
        """A client that does not read stays targeted, and expires."""
        alice, slow = self.node.client("alice"), self.node.client("alice")
        slow.outlet.buffered = 100
        name = self.publish()
        number = self.node.node.broker.sequence().number
        alice.receiver.received(f"3{number}[]")
        self.assertReceipt(name, (2, 1, 1, 0), "acknowledged", "targeted")
        slow.outlet.take()
        self.assertReceipt(name, (2, 2, 1, 0), "acknowledged", "written")
        self.node.clock.advance(60)
        self.assertReceipt(name, (2, 2, 1, 1), "acknowledged", "expired")
        slow.receiver.received(f"3{number}[]")
        self.assertReceipt(name, (2, 2, 1, 1), "acknowledged", "expired")
        self.assertEqual(self.figures("expired", "acknowledged"), [1, 1])

    def figures(self, *what: str) -> list[float | None]:
        registry = self.node.node.metrics.registry
        return [registry.get_sample_value("realtime_receipts_total", {"what": one}) for one in what]

    def test_beyond_the_named(self) -> None:
        """Past RECEIPT_MAX_CONNECTIONS connections are counted, exactly, and not named."""
        self.node = self.house(rate_limit_max_connections=50, receipt_max_connections=2)
        clients = [self.node.client("alice") for _ in range(7)]
        clients[5].outlet.buffered = 1
        name = self.publish()
        number = self.node.node.broker.sequence().number
        self.assertReceipt(name, (7, 6, 0, 0), "written", "written")
        for client in (clients[0], clients[4], clients[4], clients[5]):
            client.receiver.received(f"3{number}[]")
        clients[5].outlet.take()
        self.assertReceipt(name, (7, 7, 3, 0), "acknowledged", "written")

    def test_taken_up(self) -> None:
        """Who was away gets it on coming back, is asked, and counts once."""
        alice = self.node.client("alice")
        away = self.node.client("alice")
        away.news()
        away.cut()
        name = self.publish()
        number = self.node.node.broker.sequence().number
        self.assertReceipt(name, (1, 1, 0, 0), "written")
        back = away.back(token=self.node.token("alice"))
        self.assertIn(f'42{number}["booking:created"', "".join(back.outlet.packets()))
        self.assertReceipt(name, (2, 2, 0, 0), "written", "written")
        back.receiver.received(f"3{number}[]")
        alice.news()
        again = alice.back(token=self.node.token("alice"))
        again.receiver.received(f"3{number}[]")
        self.assertReceipt(name, (2, 2, 2, 0), "acknowledged", "acknowledged")

    def test_nobody_there(self) -> None:
        self.assertReceipt(self.publish(), (0, 0, 0, 0))

    def test_told_at_the_end(self) -> None:
        """A node that goes down tells what it knows before."""
        alice = self.node.client("alice")
        name = self.publish()
        alice.receiver.received(f"3{self.node.node.broker.sequence().number}[]")
        store = self.node.node.receipt_store
        self.successResultOf(self.node.node.receipts.stop())
        (found,) = self.successResultOf(store.read([name]))
        assert found is not None
        self.assertEqual(found.counts, (1, 1, 1))


class Store:
    """Where marks go; `answer` makes what is answered."""

    def __init__(self) -> None:
        self.told: list[list[Marks]] = []
        self.answer: Any = lambda: succeed(frozenset())

    def note(self, marks: list[Marks]) -> Deferred[frozenset[str]]:
        self.told.append(list(marks))
        answered: Deferred[frozenset[str]] = self.answer()
        return answered


class TellingTests(SynchronousTestCase):
    """What goes to the store, and when."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = Store()
        self.metrics = Metrics()
        self.receipts = self.made()

    def made(self, named: int = 1000) -> Receipts:
        made = Receipts(self.clock, self.store, self.metrics, timeout=60, named=named)  # type: ignore[arg-type]
        made.start()
        self.addCleanup(made.stop)
        return made

    def deliver(self, number: int, count: int = 3) -> list[Any]:
        publication = Publication(
            "a:b",
            b"{}",
            Audience(everyone=True),
            f"p{number}",
            1,
            sequence=Sequence("e", 1, number),
            receipt=True,
        )
        members = [connection("u") for _ in range(count)]
        for index, member in enumerate(members):
            member.id = f"c{index}"
        self.receipts.delivered(publication, members)
        return members

    def test_gathered(self) -> None:
        """One telling for all that happened meanwhile, whatever number of receivers and receipts."""
        members = self.deliver(1, 500)
        self.deliver(2)
        for member in members:
            self.receipts.acknowledged(member, 1)
        self.assertEqual(self.store.told, [])
        self.clock.advance(GATHER)
        ((first, second),) = self.store.told
        self.assertEqual(
            (first.id, len(first.marks), {mark.rank for mark in first.marks}), ("p1", 500, {2})
        )
        self.assertEqual((second.id, len(second.marks)), ("p2", 3))
        self.clock.advance(10)
        self.assertEqual(len(self.store.told), 1)

    def test_one_at_a_time(self) -> None:
        """While the store has not answered, what happens is gathered; much is told in parts."""
        waiting: list[Deferred[frozenset[str]]] = []

        def later() -> Deferred[frozenset[str]]:
            waiting.append(Deferred())
            return waiting[-1]

        self.store.answer = later
        self.receipts = self.made(5000)
        self.deliver(1, 4500)
        self.clock.advance(GATHER)
        self.deliver(2)
        self.clock.advance(1)
        self.assertEqual(len(self.store.told), 1)
        while waiting:
            waiting.pop().callback(frozenset())
            self.clock.advance(GATHER)
        sizes = [[(marks.id, len(marks.marks)) for marks in told] for told in self.store.told]
        self.assertEqual(sizes, [[("p1", 2000)], [("p1", 2000)], [("p1", 500), ("p2", 3)]])

    def test_told_again(self) -> None:
        """With the bus away nothing is lost: the newest is told once it is back."""
        self.store.answer = lambda: fail(BrokerUnavailable())
        members = self.deliver(1)
        self.clock.advance(GATHER)
        self.receipts.acknowledged(members[0], 1)
        self.store.answer = lambda: succeed(frozenset())
        self.clock.advance(AGAIN)
        ((marks,),) = self.store.told[1:]
        self.assertEqual({mark.connection: mark.rank for mark in marks.marks}, {"c0": 2, "c1": 1, "c2": 1})

    def test_a_store_that_fails(self) -> None:
        """A bug is logged, and not repeated for ever."""
        self.store.answer = lambda: fail(ValueError("bug"))
        self.deliver(1)
        self.clock.advance(GATHER)
        self.clock.pump([1] * 5)
        self.assertEqual(len(self.store.told), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_bounded(self) -> None:
        """Past so many connections the oldest receipts are awaited no more; that is counted."""
        self.patch(module, "MOST", 10)
        members = self.deliver(1, 6)
        self.receipts.acknowledged(members[0], 1)
        self.deliver(2, 6)
        self.assertEqual(self.receipts.awaited, 6)
        self.assertFalse(self.receipts.acknowledged(members[1], 1))
        self.assertTrue(self.receipts.acknowledged(members[1], 2))
        self.assertEqual(
            self.metrics.registry.get_sample_value("realtime_receipts_total", {"what": "dropped"}), 5
        )

    def test_awaited_for_its_time(self) -> None:
        members = self.deliver(1)
        self.clock.advance(30)
        self.deliver(2)
        self.clock.advance(30)
        self.assertEqual(self.receipts.awaited, 3)
        self.assertFalse(self.receipts.acknowledged(members[0], 1))
        self.clock.advance(30)
        self.assertEqual(self.receipts.awaited, 0)

    def test_a_number_that_comes_again(self) -> None:
        """After the log has begun anew, numbers stand for other publications."""
        members = self.deliver(1)
        publication = Publication(
            "a:b", b"{}", Audience(everyone=True), "other", 1, sequence=Sequence("f", 1, 1), receipt=True
        )
        self.receipts.delivered(publication, members[:1])
        self.assertTrue(self.receipts.acknowledged(members[0], 1))
        self.assertFalse(self.receipts.acknowledged(members[1], 1))
        self.clock.advance(GATHER)
        told = {marks.id: len(marks.marks) for marks in self.store.told[0]}
        self.assertEqual(told, {"p1": 3, "other": 1})
