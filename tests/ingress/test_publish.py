"""Tests for realtime.ingress.publish."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import BrokerUnavailable, InvalidPublication, NoOwner, UnknownChannel
from realtime.ingress.publish import Accepted
from realtime.messages import Audience

from .bus import START, Bus

NOW = int(START * 1000)


class PublishTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bus = Bus()

    def publish(self, channel: str, data: bytes, message_id: str | None = None) -> Accepted:
        return self.successResultOf(self.bus.ingest.publish(channel, data, message_id))

    def refused(
        self, error: type[Exception], channel: str, data: bytes, message_id: str | None = None
    ) -> None:
        self.failureResultOf(self.bus.ingest.publish(channel, data, message_id), error)
        self.assertEqual(self.bus.delivered, [])

    def test_what_is_published_is_delivered(self) -> None:
        accepted = self.publish("booking:confirmed", b'{"userId":"u1","bookingId":7}')
        (publication,) = self.bus.delivered
        self.assertEqual(publication.event, "booking:confirmed")
        self.assertEqual(publication.data, b'{"userId":"u1","bookingId":7,"timestamp":%d}' % NOW)
        self.assertEqual(publication.audience, Audience(users=frozenset({"u1"})))
        self.assertEqual(publication.time, NOW)
        self.assertTrue(publication.logged)
        self.assertEqual(accepted.id, publication.id)
        self.assertEqual(accepted.position, publication.position)
        self.assertEqual(accepted.audience, publication.audience)
        self.assertFalse(accepted.repeated)

    def test_a_room_message_looks_like_one_of_a_client(self) -> None:
        accepted = self.publish("room:lobby:message", b'{"text":"hi"}')
        (publication,) = self.bus.delivered
        self.assertTrue(publication.history)
        self.assertEqual(
            json.loads(publication.payload()),
            {"text": "hi", "roomId": "lobby", "id": accepted.id, "timestamp": NOW, "offset": 1},
        )

    def test_ids_differ(self) -> None:
        self.assertNotEqual(self.publish("system:x", b"{}").id, self.publish("system:x", b"{}").id)

    def test_a_message_id_is_taken_once(self) -> None:
        first = self.publish("booking:confirmed", b'{"userId":"u1"}', "m1")
        self.bus.clock.advance(60)
        second = self.publish("booking:confirmed", b'{"userId":"u1"}', "m1")
        self.assertEqual(len(self.bus.delivered), 1)
        self.assertEqual((second.id, second.position, second.repeated), (first.id, first.position, True))
        self.assertEqual(self.bus.counted("publications_total", kind="booking", outcome="repeated"), 1)

    def test_a_message_id_counts_for_its_channel(self) -> None:
        self.publish("booking:confirmed", b'{"userId":"u1"}', "m1")
        self.publish("booking:cancelled", b'{"userId":"u1"}', "m1")
        self.assertEqual(len(self.bus.delivered), 2)

    def test_bad_message_ids(self) -> None:
        for message_id in ("", "x" * 129, "a\nb", "a\0b"):
            self.refused(InvalidPublication, "system:x", b"{}", message_id)

    def test_presence_reaches_those_who_share_a_room(self) -> None:
        self.bus.present("u1", "lobby", "event:7")
        accepted = self.publish("user:online", b'{"userId":"u1"}')
        (publication,) = self.bus.delivered
        self.assertEqual(publication.audience, Audience(rooms=frozenset({"lobby", "event:7"})))
        self.assertFalse(publication.logged)
        self.assertIsNone(accepted.position)

    def test_presence_of_a_user_without_rooms_reaches_nobody(self) -> None:
        audience = self.publish("user:online", b'{"userId":"u1"}').audience
        self.assertEqual((audience.everyone, audience.targets), (False, frozenset()))

    def test_outcomes_are_counted(self) -> None:
        self.publish("booking:confirmed", b'{"userId":"u1"}')
        self.refused_and_counted("booking:confirmed", NoOwner)
        self.refused_and_counted("warehouse:moved", UnknownChannel, kind="other")
        self.assertEqual(self.bus.counted("publications_total", kind="booking", outcome="accepted"), 1)

    def refused_and_counted(
        self, channel: str, error: type[NoOwner | UnknownChannel], kind: str = ""
    ) -> None:
        self.bus.delivered.clear()
        self.refused(error, channel, b"{}")
        kind = kind or channel.partition(":")[0]
        self.assertEqual(self.bus.counted("publications_total", kind=kind, outcome=error.code), 1)

    def test_a_bus_that_is_away(self) -> None:
        self.bus.broker.stop()
        self.refused(BrokerUnavailable, "system:x", b"{}")
        self.assertEqual(
            self.bus.counted("publications_total", kind="system", outcome="broker.unavailable"), 1
        )
