"""Tests for realtime.ids."""

import re

from twisted.trial.unittest import SynchronousTestCase

from realtime.ids import secret_id, unique_id


class UniqueIdTests(SynchronousTestCase):
    def test_shape(self) -> None:
        self.assertRegex(unique_id(1_700_000_000_000), r"^018bcfe56800[0-9a-f]{16}$")

    def test_unique_within_one_millisecond(self) -> None:
        self.assertEqual(len({unique_id(7) for _ in range(1000)}), 1000)

    def test_sorts_by_time(self) -> None:
        times = [0, 1, 15, 16, 999, 1_700_000_000_000, 1_700_000_000_001]
        self.assertEqual([int(made[:12], 16) for made in sorted(map(unique_id, times))], times)


class SecretIdTests(SynchronousTestCase):
    def test_holds_128_bits_that_differ(self) -> None:
        made = {secret_id() for _ in range(100)}
        self.assertEqual(len(made), 100)
        for secret in made:
            self.assertTrue(re.fullmatch(r"[A-Za-z0-9_-]{22}", secret))
