"""What is held, and when it goes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime.broker.held import OVERHEAD, Held, confirmation


class HeldTests(SynchronousTestCase):
    def held(self, count: int = 10, size: int = 1 << 20, ticks: int = 3) -> Held:
        return Held(count=count, size=size, ticks=ticks)

    def test_in_the_order_heard(self) -> None:
        held = self.held()
        works = [held.add(b"1", b"system:note", data) for data in (b"a", b"b", b"a", b"c")]
        self.assertEqual(list(held), works)
        held.confirm(confirmation(b"1", b"system:note", b"b"))
        self.assertEqual(list(held), [works[0], works[2], works[3]])

    def test_the_oldest_era(self) -> None:
        held = self.held()
        self.assertEqual(held.oldest, b"")
        held.add(b"17", b"c", b"x")
        held.add(b"18", b"c", b"x")
        self.assertEqual(held.oldest, b"17")
        held.confirm(confirmation(b"17", b"c", b"x"))
        self.assertEqual(held.oldest, b"18")

    def test_the_oldest_of_equal_ones(self) -> None:
        held = self.held()
        first, second = (held.add(b"1", b"c", b"x") for _ in range(2))
        said = confirmation(b"1", b"c", b"x")
        self.assertIs(held.confirm(said), first)
        self.assertEqual(list(held), [second])
        self.assertIs(held.confirm(said), second)
        self.assertIsNone(held.confirm(said))
        self.assertEqual((len(held), held.size), (0, 0))

    def test_what_is_not_equal(self) -> None:
        """Era, channel and data make the difference, and where one ends and the other begins."""
        said = {
            confirmation(era, channel, data)
            for era in (b"1", b"2")
            for channel, data in ((b"a", b"b"), (b"a", b"c"), (b"b", b"b"), (b"", b"ab"), (b"ab", b""))
        }
        self.assertEqual(len(said), 10)

    def test_count(self) -> None:
        held = self.held(count=2)
        self.assertTrue(held.add(b"1", b"c", b"0"))
        self.assertTrue(held.add(b"1", b"c", b"1"))
        self.assertIsNone(held.add(b"1", b"c", b"2"))
        held.confirm(confirmation(b"1", b"c", b"0"))
        self.assertTrue(held.add(b"1", b"c", b"3"))
        self.assertEqual([work.data for work in held], [b"1", b"3"])

    def test_size(self) -> None:
        held = self.held(size=2 * (OVERHEAD + 1 + 10))
        self.assertTrue(held.add(b"1", b"c", b"x" * 10))
        self.assertIsNone(held.add(b"1", b"c", b"x" * 11))
        self.assertTrue(held.add(b"1", b"c", b"y" * 10))
        self.assertEqual(held.size, 2 * (OVERHEAD + 1 + 10))
        self.assertEqual(held.clear(), 2)
        self.assertEqual((len(held), held.size, list(held)), (0, 0, []))

    def test_passed_over(self) -> None:
        held = self.held(ticks=2)
        held.add(b"1", b"c", b"0")
        self.assertEqual(held.tick(), 0)
        held.add(b"1", b"c", b"1")
        self.assertEqual([held.tick(), held.tick(), held.tick(), held.tick()], [0, 1, 1, 0])
        self.assertEqual((len(held), held.size), (0, 0))
        self.assertIsNone(held.confirm(confirmation(b"1", b"c", b"0")))
