"""Tests for realtime.payload."""

import json
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.payload import is_utf8, spliced, too_deep

from .generated import unhurried

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('\\"[]{}ab\n'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('"{[\\x', max_size=3), inner, max_size=4)
    ),
    max_leaves=30,
)


def depth(value: object) -> int:
    """The nesting depth of a decoded value, the plain way."""
    inner: list[object] = []
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return 0
    return 1 + max(map(depth, inner), default=0)


class DepthTests(SynchronousTestCase):
    @unhurried
    @given(JSON, st.integers(0, 6))
    def test_agrees_with_the_plain_count(self, value: object, limit: int) -> None:
        data = json.dumps(value).encode()
        self.assertEqual(too_deep(data, limit), depth(value) > limit)

    def test_limit(self) -> None:
        self.assertFalse(too_deep(b"[" * 32 + b"]" * 32))
        self.assertTrue(too_deep(b"[" * 33 + b"]" * 33))
        self.assertTrue(too_deep(b'{"a":' * 33 + b"1" + b"}" * 33))

    def test_time_is_bounded(self) -> None:
        """A megabyte of nothing but brackets takes milliseconds, however they nest."""
        for level in (1, 31, 32, 33, 400_000):
            data = (b"[" * level + b"]" * level) * (400_000 // level)
            times = []
            for _ in range(3):
                began = time.process_time()
                too_deep(data)
                times.append(time.process_time() - began)
            self.assertLess(min(times), 0.025, level)

    def test_many_flat_ones_are_not_deep(self) -> None:
        self.assertFalse(too_deep(b"[" + b",".join([b"[{}]"] * 1000) + b"]"))

    def test_brackets_in_strings_do_not_count(self) -> None:
        self.assertFalse(too_deep(b'{"a":"' + b"[" * 100 + b'\\"' + b"{" * 100 + b'\\\\"}'))


class Utf8Tests(SynchronousTestCase):
    def test_accepted(self) -> None:
        for data in (b"", b"abc", "Zoë 😀".encode()):
            self.assertTrue(is_utf8(data))

    def test_refused(self) -> None:
        for data in (b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80"):
            self.assertFalse(is_utf8(data))


class SplicedTests(SynchronousTestCase):
    def test_added_at_the_end(self) -> None:
        self.assertEqual(spliced(b'{"a":1}', [b'"b":2', b'"c":3']), b'{"a":1,"b":2,"c":3}')

    def test_into_an_empty_object(self) -> None:
        self.assertEqual(spliced(b"{}", [b'"b":2']), b'{"b":2}')

    def test_nothing_added(self) -> None:
        self.assertEqual(spliced(b'{"a":1}', []), b'{"a":1}')
