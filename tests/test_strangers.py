from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime.strangers import Strangers


class StrangersTests(SynchronousTestCase):
    """The oldest gives way, of the same address first."""

    def setUp(self) -> None:
        self.strangers: Strangers[int] = Strangers(4, 2)

    def add(self, *pairs: tuple[int, str]) -> list[int | None]:
        return [self.strangers.add(key, address) for key, address in pairs]

    def test_room_for_all(self) -> None:
        self.assertEqual(self.add((1, "a"), (2, "a"), (3, "b"), (4, "b")), [None] * 4)
        self.assertEqual(len(self.strangers), 4)

    def test_too_many_of_one_address(self) -> None:
        self.assertEqual(self.add((1, "b"), (2, "a"), (3, "a"), (4, "a"), (5, "a")), [None] * 3 + [2, 3])
        self.assertEqual(len(self.strangers), 3)

    def test_too_many_in_all(self) -> None:
        self.assertEqual(self.add(*((key, str(key)) for key in range(6))), [None] * 4 + [0, 1])
        self.assertEqual(len(self.strangers), 4)

    def test_who_is_none_any_more_gives_no_way(self) -> None:
        self.add((1, "a"), (2, "a"))
        self.strangers.remove(1)
        self.strangers.remove(1)
        self.assertEqual(self.add((3, "a"), (4, "a")), [None, 2])

    def test_nothing_is_kept_of_an_address(self) -> None:
        self.add((1, "a"), (2, "b"))
        self.strangers.remove(1)
        self.strangers.remove(2)
        self.assertEqual((len(self.strangers), self.strangers._of), (0, {}))
