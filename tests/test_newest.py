"""Of what an event tells the value: a later one of the same key makes it worthless."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime.newest import Newest


def same(one: tuple[str, bytes, str], other: tuple[str, bytes, str]) -> bool:
    return bool(Newest(*one).key == Newest(*other).key)


class NewestTests(SynchronousTestCase):
    """`Newest.key`."""

    def test_counters(self) -> None:
        """The fields that name something tell two counters apart; numbers and texts about it do not."""
        first = ("ticket:available", b'{"eventId":42,"available":9,"state":"low"}', "event:42")
        self.assertTrue(same(first, ("ticket:available", b'{"eventId":42,"available":8}', "event:42")))
        self.assertTrue(
            same(first, ("ticket:available", b'{"timestamp":1,"messageId":"x","eventId":42}', "event:42"))
        )
        for data in (
            b'{"eventId":43,"available":8}',
            b'{"eventId":42,"ticketType":"vip"}',
            b'{"eventId":42,"seat":"A1"}',
            b'{"eventId":42,"section_name":"left"}',
            b'{"eventId":42,"key":1}',
            b'{"eventId":42,"id":1}',
        ):
            self.assertFalse(same(first, ("ticket:available", data, "event:42")), data)

    def test_order_of_fields(self) -> None:
        one = ("ticket:sold", b'{"eventId":1,"seat":"A"}', "r")
        self.assertTrue(same(one, ("ticket:sold", b'{"seat":"A","left":3,"eventId":1}', "r")))

    def test_events_and_channels(self) -> None:
        """Another event, or another channel, is another thing."""
        one = ("queue:position", b'{"position":3}', "user:a")
        self.assertTrue(same(one, ("queue:position", b'{"position":2}', "user:a")))
        self.assertFalse(same(one, ("queue:position", b'{"position":2}', "user:b")))
        self.assertFalse(same(one, ("ticket:sold", b'{"position":2}', "user:a")))

    def test_statuses(self) -> None:
        """One user has one status, by whichever event it is told."""
        one = ("user:online", b'{"userId":"a","status":"online"}', "r1")
        self.assertTrue(same(one, ("user:offline", b'{"userId":"a","status":"offline"}', "*")))
        self.assertFalse(same(one, ("user:offline", b'{"userId":"b","status":"offline"}', "*")))

    def test_unreadable(self) -> None:
        """What is no object has no fields."""
        self.assertTrue(same(("ticket:x", b"[", "r"), ("ticket:x", b"3", "r")))

    def test_once(self) -> None:
        """It is found out once."""
        newest = Newest("ticket:sold", b'{"id":1}', "r")
        self.assertIs(newest.key, newest.key)
