"""What becomes of what services publish on Redis, before the bus."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from realtime.complaints import QUIET
from realtime.errors import InvalidPublication, MessageTooLarge, NoOwner, NoReceipt, UnknownChannel
from realtime.ingress.redis_events import RedisEvents

from .bus import Bus


class RedisEventsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bus = Bus()
        self.events = RedisEvents(self.bus.ingest, self.bus.clock.seconds)

    def prepare(self, channel: bytes, data: bytes, message_id: bytes | None = None) -> Any:
        return self.events.prepare(channel, data, message_id, inside=message_id is None)

    def test_patterns(self) -> None:
        """One for each service: what begins differently is never matched twice."""
        self.assertEqual(
            self.events.patterns,
            (
                *(b"booking:*", b"event:*", b"invoice:*", b"notification:*", b"payment:*", b"room:*"),
                *(b"system:*", b"ticket:*", b"user:*"),
            ),
        )

    def test_prepared(self) -> None:
        publication, key = self.prepare(b"booking:confirmed", b' {"userId": 7} ')
        self.assertEqual(publication.event, "booking:confirmed")
        self.assertEqual(publication.audience.users, {"7"})
        self.assertIsNone(key)

    def test_one_idempotency_rule(self) -> None:
        """A messageId is the same one, whether it stands in the payload or beside it."""
        _, inside = self.prepare(b"system:note", b'{"messageId":"m"}')
        _, number = self.prepare(b"system:note", b'{"messageId":7}')
        _, beside = self.prepare(b"system:note", b'{"messageId":"x"}', b"m")
        _, over_http = self.bus.ingest.prepare("system:note", b'{"messageId":"x"}', "m")
        self.assertEqual({inside, beside, over_http}, {inside})
        self.assertNotEqual(inside, number)
        for absent in (b"{}", b'{"messageId":null}'):
            self.assertIsNone(self.prepare(b"system:note", absent)[1])

    def test_receipt(self) -> None:
        """Its id is the one that the publisher knows; what is not kept for recovery has none."""
        prepared = self.events.prepare(b"system:note", b"{}", b"m", inside=False, receipt=b"17-0")
        assert isinstance(prepared, tuple)
        publication, key = prepared
        self.assertEqual((publication.id, publication.receipt), ("17-0", True))
        self.assertEqual(key, self.prepare(b"system:note", b"{}", b"m")[1])
        unlogged = self.events.prepare(
            b"user:online", b'{"userId":"alice"}', None, inside=False, receipt=b"17-1"
        )
        assert isinstance(unlogged, Deferred)
        self.failureResultOf(unlogged, NoReceipt)

    def test_looked_up(self) -> None:
        """Only for what goes to those who share a room."""
        prepared = self.prepare(b"user:online", b'{"userId":"alice"}')
        self.assertIsInstance(prepared, Deferred)
        publication, _ = self.successResultOf(prepared)
        self.assertEqual(publication.audience.rooms, frozenset())
        self.assertFalse(publication.logged)

    def test_refused(self) -> None:
        for channel, data, message_id, error in (
            (b"booking:confirmed", b"{}", None, NoOwner),
            (b"user:online", b"{}", None, NoOwner),
            (b"system:note", b"{", None, InvalidPublication),
            (b"system:note", b"[]", None, InvalidPublication),
            (b"system:note", b"", None, InvalidPublication),
            (b"system:note", b'{"a":"\xff"}', None, InvalidPublication),
            (b"system:note", b"[" * 100_000, None, InvalidPublication),
            (b"system:note", b'{"messageId":""}', None, InvalidPublication),
            (b"system:note", b'{"messageId":{}}', None, InvalidPublication),
            (b"system:note", b'{"messageId":"' + b"x" * 129 + b'"}', None, InvalidPublication),
            (b"system:note", b"{}", b"\xff", InvalidPublication),
            (b"system:note", b"{}", b"", InvalidPublication),
            (b"system:note", b'{"a":"%b"}' % (b"x" * 300_000), None, MessageTooLarge),
            (b"system:\xff", b"{}", None, UnknownChannel),
            (b"", b"{}", None, UnknownChannel),
            (b"socket:connect", b"{}", None, UnknownChannel),
            (b"user:alice", b"{}", None, UnknownChannel),
        ):
            self.assertRaises(error, self.prepare, channel, data, message_id)

    def test_ours(self) -> None:
        ours = b'{"userId":"alice","source":"realtime"}'
        for channel in (b"user:online", b"user:offline", b"user:status_change"):
            self.assertTrue(self.events.ours(channel, ours))
            self.assertFalse(self.events.ours(channel, b'{"source":"realtime","userId":"alice"}'))
        self.assertFalse(self.events.ours(b"user:alice:note", ours))
        self.assertFalse(self.events.ours(b"system:note", ours))

    def test_said_now_and_then(self) -> None:
        """However many are refused, the log has one line of each reason; the metrics have all."""
        with capturedLogs() as events:
            for _ in range(100):
                self.events.handled(b"booking:\x1b[2J" + b"x" * 500, "publish.no_owner", "no owner")
                self.events.handled(b"system:note", "publish.invalid", "bad")
                self.events.handled(b"system:note", "accepted")
            self.assertEqual([event["code"] for event in events], ["publish.no_owner", "publish.invalid"])
            self.assertLess(len(events[0]["channel"]), 200)
            self.bus.clock.advance(QUIET)
            self.events.handled(b"booking:x", "publish.no_owner", "no owner")
        self.assertEqual(len(events), 3)
        count = self.bus.metrics.registry.get_sample_value
        labels = {"kind": "booking", "outcome": "publish.no_owner"}
        self.assertEqual(count("realtime_publications_total", labels), 101)
