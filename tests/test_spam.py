"""What looks like spam is refused for a while; what people write is not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime import spam as module
from realtime.config_file import SpamRule
from realtime.errors import SpamRefused
from realtime.spam import Spam


class SpamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.spam = Spam(SpamRule(enabled=True))
        self.now = 1000.0

    def passed(self, *texts: str, room: str = "lobby", pause: float = 0.0, user: str = "alice") -> int:
        """How many of these come through, one after the other."""
        count = 0
        for text in texts:
            try:
                self.spam.check(user, room, text, self.now)
                count += 1
            except SpamRefused:
                pass
            self.now += pause
        return count

    def test_people(self) -> None:
        """A talk, a link now and then, and the same short word over a while are no spam."""
        talk = [f"message number {n} of a talk" for n in range(30)]
        self.assertEqual(self.passed(*talk, pause=2.0), 30)
        self.assertEqual(self.passed("see https://example.com/a", "and www.example.org", pause=20.0), 2)
        self.assertEqual(self.passed(*["ok"] * 4, pause=60.0), 4)

    def test_repeats(self) -> None:
        """The same again and again, also with other case, spaces and signs."""
        texts = [
            "Buy my tickets!",
            "BUY MY TICKETS",
            "buy, my tickets",
            "buy my  tickets...",
            "Buy my tickets",
        ]
        self.assertEqual(self.passed(*texts, *texts), 3)

    def test_links(self) -> None:
        self.assertEqual(self.passed("http://a.example http://b.example cheap.xyz www.c.de evil.top"), 0)

    def test_rooms(self) -> None:
        """A burst over many rooms."""
        sent = sum(self.passed(f"hello room {n}", room=f"event:{n}") for n in range(20))
        self.assertTrue(5 <= sent <= 9, sent)

    def test_retry_after(self) -> None:
        """Who waits as long as is said is heard again; others were never affected."""
        self.passed(*["spam"] * 6)
        error = self.assertRaises(SpamRefused, self.spam.check, "alice", "lobby", "news", self.now)
        assert error.retry_after is not None
        self.assertEqual(self.passed("fresh", user="bob"), 1)
        self.now += error.retry_after + 0.01
        self.assertEqual(self.passed("something else"), 1)

    def test_going_on_costs(self) -> None:
        """Refused messages count, but not without end."""
        self.passed(*["spam"] * 1000)
        error = self.assertRaises(SpamRefused, self.spam.check, "alice", "lobby", "x", self.now)
        assert error.retry_after is not None
        self.assertLess(error.retry_after, 40.0)

    def test_off(self) -> None:
        self.spam = Spam(SpamRule())
        self.assertEqual(self.passed(*["http://a.example"] * 50), 50)
        self.assertEqual(len(self.spam), 0)

    def test_users_are_bounded(self) -> None:
        self.patch(module, "MAX_USERS", 3)
        for user in "abcdab":
            self.passed("hello", user=user)
        self.assertEqual(len(self.spam), 3)
