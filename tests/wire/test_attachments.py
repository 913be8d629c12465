"""Tests for realtime.wire.attachments."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import ProtocolError
from realtime.wire.attachments import MAX_ATTACHMENTS, check_placeholders, fold, unfold

from ..generated import unhurried


def placeholder(number: Any) -> dict[str, Any]:
    return {"_placeholder": True, "num": number}


class CheckTests(SynchronousTestCase):
    def test_takes_each_once_in_any_order_and_depth(self) -> None:
        check_placeholders(json.dumps(["a", placeholder(0)]), 1)
        check_placeholders(json.dumps(["a", placeholder(1), {"b": [placeholder(0)]}]), 2)
        check_placeholders(json.dumps([placeholder(n) for n in range(10)]), 10)
        check_placeholders(json.dumps(["a", {"_placeholder": False}, placeholder(0)]), 1)

    def test_refuses(self) -> None:
        refused: list[tuple[Any, int]] = [
            (["a"], 1),
            (["a", placeholder(0)], 2),
            (["a", placeholder(0), placeholder(0)], 1),
            (["a", placeholder(0), placeholder(0)], 2),
            (["a", placeholder(1)], 1),
            (["a", placeholder(-1)], 1),
            (["a", placeholder(10**30)], 1),
            (["a", placeholder("0")], 1),
            (["a", placeholder(0.0)], 1),
            (["a", placeholder(False)], 1),
            (["a", placeholder(None)], 1),
            (["a", placeholder("length")], 1),
            (["a", {"_placeholder": True}], 1),
            (["a", {"_placeholder": True, "num": 0, "more": 1}], 1),
            ([placeholder(n) for n in range(11)], 10),
        ]
        for value, count in refused:
            with self.assertRaises(ProtocolError, msg=repr(value)):
                check_placeholders(json.dumps(value), count)

    def test_refuses_what_is_too_deep(self) -> None:
        payload = "[" * 33 + '{"_placeholder":true,"num":0}' + "]" * 33
        self.assertRaises(ProtocolError, check_placeholders, payload, 1)


class FoldTests(SynchronousTestCase):
    def test_puts_base64_where_placeholders_are(self) -> None:
        raw = json.dumps({"a": placeholder(1), "b": [1, placeholder(0)]}).encode()
        self.assertEqual(
            fold(raw, [b"\x00\xff", b"xyz"]),
            (b'{"a":{"$binary":"eHl6"},"b":[1,{"$binary":"AP8="}]}', True),
        )
        self.assertEqual(fold(b'{"_placeholder":true,"num":0}', [b""]), (b'{"$binary":""}', True))

    def test_leaves_a_value_without_placeholders_as_it_was_written(self) -> None:
        raw = b'{"a": [1.10, {"b" :{}}], "_placeholder": 1}'
        self.assertEqual(fold(raw, [b"x"]), (raw, False))

    def test_without_attachments_placeholders_are_data(self) -> None:
        raw = b'{"_placeholder":true,"num":7}'
        self.assertEqual(fold(raw, []), (raw, False))


class UnfoldTests(SynchronousTestCase):
    def test_takes_base64_out_in_order(self) -> None:
        self.assertEqual(
            unfold(b'{"a":{"$binary":"eHl6"},"b":[1,{"$binary":"AP8="}]}'),
            (
                b'{"a":{"_placeholder":true,"num":0},"b":[1,{"_placeholder":true,"num":1}]}',
                (b"xyz", b"\x00\xff"),
            ),
        )

    def test_what_is_not_exactly_binary_stays_literal(self) -> None:
        for raw in [
            b'{"a": {"$binary":"eHl6", "b":1}}',
            b'{"a": {"$binary":"not base64"}}',
            b'{"a": {"$binary":"eHl"}}',
            b'{"a": {"$binary":"e\xc3\xa9=="}}',
            b'{"a": {"$binary": 5}}',
            b'{"a": "$binary"}',
            b'{"n": 1e999}',
            b"[" * 5000 + b"]" * 5000,
        ]:
            self.assertEqual(unfold(raw), (raw, ()))

    def test_takes_no_more_than_a_client_accepts(self) -> None:
        value = [{"$binary": b64encode(bytes([n])).decode()} for n in range(12)]
        raw, attachments = unfold(json.dumps(value).encode())
        self.assertEqual(attachments, tuple(bytes([n]) for n in range(MAX_ATTACHMENTS)))
        self.assertEqual(json.loads(raw)[10:], value[10:])

    def test_data_that_looks_like_a_placeholder_can_not_break_the_packet(self) -> None:
        raw, attachments = unfold(b'[{"$binary":"eHl6"},{"_placeholder":true,"num":9,"a":1}]')
        self.assertEqual(json.loads(raw), [placeholder(0), {"num": 9, "a": 1}])
        self.assertEqual(attachments, (b"xyz",))

    @unhurried
    @given(
        st.recursive(
            st.none() | st.integers(0, 9) | st.text("ab"),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=2), inner),
        ),
        st.lists(st.binary(max_size=8), min_size=1, max_size=10),
    )
    def test_is_the_reverse_of_fold(self, value: Any, attachments: list[bytes]) -> None:
        packed = {"value": value, "binary": [placeholder(n) for n in range(len(attachments))]}
        raw = json.dumps(packed, separators=(",", ":")).encode()
        check_placeholders(raw.decode(), len(attachments))
        folded, binary = fold(raw, attachments)
        self.assertTrue(binary)
        self.assertEqual(unfold(folded), (raw, tuple(attachments)))
