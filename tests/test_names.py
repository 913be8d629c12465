"""Tests for realtime.names."""

from twisted.trial.unittest import SynchronousTestCase

from realtime.names import valid_event, valid_room, valid_service, valid_user


class RoomTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        for room in ("lobby", "event:42", "a_b-C:9:x", "user:7", "x" * 128):
            self.assertTrue(valid_room(room), room)

    def test_refused(self) -> None:
        for room in ("", ":", "a:", ":a", "a::b", "a b", "a\n", "é", "*", "a*", "a.b", "٣", "x" * 129):
            self.assertFalse(valid_room(room), repr(room))

    def test_event_names_follow_the_same_grammar(self) -> None:
        self.assertTrue(valid_event("booking:confirmed"))
        self.assertFalse(valid_event("booking:"))


class UserTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        for user in ("42", "alice@example.com", "a/b", "Zoë", "auth0|5f", "x" * 128):
            self.assertTrue(valid_user(user), user)

    def test_refused(self) -> None:
        for user in (
            "",
            " ",
            "a b",
            "a:b",
            "a*",
            "a?",
            "[a]",
            "{a}",
            "a\n",
            "\x00",
            "\u2028",
            "\ud800",
            "x" * 129,
        ):
            self.assertFalse(valid_user(user), repr(user))


class ServiceTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        for service in ("booking", "seat-map", "s3", "x" * 32):
            self.assertTrue(valid_service(service), service)

    def test_refused(self) -> None:
        for service in ("", "Booking", "3s", "a:b", "a*", "x" * 33, "a\n"):
            self.assertFalse(valid_service(service), repr(service))
