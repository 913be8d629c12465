"""Tests for realtime.wire.cbor: what is looked through, and what is refused before it is decoded."""

from __future__ import annotations

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import ProtocolError
from realtime.wire.cbor import MAX_ITEMS, loads, scan

from ..generated import unhurried

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


class ScanTests(SynchronousTestCase):
    def test_taken(self) -> None:
        for text, value in [
            ("83010203", [1, 2, 3]),
            ("a1616101", {"a": 1}),
            ("9f0102ff", [1, 2]),
            ("bf616101616202ff", {"a": 1, "b": 2}),
            ("a0", {}),
            ("80", []),
            ("f90000", 0.0),
            ("fb3ff199999999999a", 1.1),
            ("1bffffffffffffffff", 2**64 - 1),
            ("4101", b"\x01"),
            ("8181a1616181f5", [[{"a": [True]}]]),
        ]:
            self.assertEqual(loads(bytes.fromhex(text)), value, text)

    def test_refused(self) -> None:
        deep = "81" * 40 + "00"
        for text in [
            "",
            "83",
            "8301",
            "830102",
            "0000",
            "6261",
            "5b7fffffffffffffff",
            "9bffffffffffffffff",
            "bbffffffffffffffff",
            "c000",
            "d81c80",
            "d81d00",
            "d82361",
            "c249010000000000000000",
            "f800",
            "f0",
            "ff",
            "81ff",
            "a1ff",
            "bf6161ff",
            "a10101",
            "a1f600",
            "a1410000",
            "a1fb3ff199999999999a00",
            "a1800000",
            "a1a00000",
            "7f6161ff",
            "5f4161ff",
            "1c",
            "62c328",
            deep,
        ]:
            with self.assertRaises(ProtocolError, msg=text):
                loads(bytes.fromhex(text))

    def test_many(self) -> None:
        """So many items, and no more."""
        scan(b"\x99" + (MAX_ITEMS - 1).to_bytes(2, "big") + b"\x00" * (MAX_ITEMS - 1))
        many = b"\x99" + MAX_ITEMS.to_bytes(2, "big") + b"\x00" * MAX_ITEMS
        self.assertRaises(ProtocolError, scan, many)

    def test_depth(self) -> None:
        """A message is a list around its payload, of 32 levels."""
        scan(b"\x81" * 33 + b"\x00")
        self.assertRaises(ProtocolError, scan, b"\x81" * 34 + b"\x00")

    @unhurried
    @given(VALUES)
    def test_what_is_plain_passes(self, value: object) -> None:
        """Whatever the library makes of plain values is taken, and means the same."""
        made = cbor2.dumps(value)
        self.assertEqual(cbor2.dumps(loads(made)), made)

    @unhurried
    @given(st.binary(max_size=200))
    def test_rubbish(self, data: bytes) -> None:
        """It is refused, or it is what the library takes as well."""
        try:
            loads(data)
        except ProtocolError:
            return
        cbor2.loads(data)
