"""Tests for realtime.wire.rawjson."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import ProtocolError
from realtime.wire.rawjson import load, screen, split

from ..generated import unhurried

#: What none of the functions takes.
MALFORMED = [
    "",
    " ",
    "[",
    "[1,]",
    '["a" "b"]',
    "[01]",
    "[NaN]",
    "[Infinity]",
    "[-]",
    "[1.]",
    "['a']",
    '["\x1e"]',
    '["a\nb"]',
    '["\\x41"]',
    '["\\ud800"]',
    '["\\ude00\\ud83d"]',
    '["\ud800"]',
    "[1]2",
    "[" * 100_000,
    "[" * 100_000 + "]" * 100_000,
]

#: One value, and what `screen` makes of it.
SCREENED = [
    (b"1", b"1"),
    (b'{"a": 1.10}', b'{"a": 1.10}'),
    ('"жук \U0001f600"'.encode(), '"жук \U0001f600"'.encode()),
    (b'"\\u0436\\ud83d\\ude00"', b'"\\u0436\\ud83d\\ude00"'),
    (b'{"a":1,"a":2}', b'{"a":1,"a":2}'),
    (b"18446744073709551615", b"18446744073709551615"),
    (b"-9223372036854775808", b"-9223372036854775808"),
    (b"[1e308,-1E+308,1e-999]", b"[1e308,-1E+308,1e-999]"),
    (b'"1e999 {[{[ -----------------------------"', b'"1e999 {[{[ -----------------------------"'),
    (b"[" * 32 + b"]" * 32, b"[" * 32 + b"]" * 32),
    (b'"' + b"[{" * 500 + b'"', b'"' + b"[{" * 500 + b'"'),
    (b'{"constructor":"Ferrari","a":1}', b'{"a":1}'),
    (b'[{"a":{"__proto__":{"admin":true}}}]', b'[{"a":{}}]'),
    (b'{"prototype":2}', b"{}"),
    (b'{"\\u005f\\u005Fproto\\u005f_":1}', b"{}"),
    (b'{"\\u005f_pr\\u006fto__":1}', b"{}"),
    (b'{"a":"__proto__","proto":1, "x":1.50}', b'{"a":"__proto__","proto":1, "x":1.50}'),
]

SCREENED_OUT = [
    b"[" * 33 + b"]" * 33,
    b'{"a":' * 33 + b"1" + b"}" * 33,
    b"1e999",
    b"[-1E+309]",
    b"1" + b"0" * 309 + b".5",
    b"18446744073709551616",
    b'{"a":[-9223372036854775809]}',
    b"9" * 5000,
]


class SplitTests(SynchronousTestCase):
    def test_splits_without_changing_the_elements(self) -> None:
        raw = split('[ "a" ,{"b" : 1.10, "b":2},[ ],\tnull]')
        self.assertEqual([bytes(value) for value in raw], [b'"a"', b'{"b" : 1.10, "b":2}', b"[ ]", b"null"])

    def test_refuses_what_is_no_array(self) -> None:
        for text in [*MALFORMED, "{}", '"a"', "1", "null"]:
            with self.assertRaises(ProtocolError, msg=text[:40]):
                split(text)

    @unhurried
    @given(st.text())
    def test_takes_only_json_or_raises_protocol_error(self, text: str) -> None:
        try:
            split(text)
        except ProtocolError:
            return
        self.assertIsInstance(json.loads(text), list)


class LoadTests(SynchronousTestCase):
    def test_decodes(self) -> None:
        self.assertEqual(load('{"a":[1,2.5,"x",null]}'), {"a": [1, 2.5, "x", None]})
        self.assertEqual(load(b"[]"), [])
        self.assertEqual(load("[" * 31 + "1" + "]" * 31), load(b"[" * 31 + b"1" + b"]" * 31))

    def test_refuses(self) -> None:
        for text in [*MALFORMED, "[" * 33 + "]" * 33, "1e999"]:
            with self.assertRaises(ProtocolError, msg=text[:40]):
                load(text)


class ScreenTests(SynchronousTestCase):
    def test_lets_through_or_takes_out(self) -> None:
        for given_, expected in SCREENED:
            self.assertEqual(screen(given_), expected)

    def test_refuses(self) -> None:
        for raw in SCREENED_OUT:
            with self.assertRaises(ProtocolError, msg=str(raw[:40])):
                screen(raw)

    @unhurried
    @given(
        st.recursive(
            st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.text() | st.sampled_from(["__proto__", "constructor"]), inner)
            ),
        ),
        st.booleans(),
    )
    def test_changes_nothing_but_forbidden_keys(self, value: Any, escaped: bool) -> None:
        try:
            raw = json.dumps(value, ensure_ascii=escaped).encode()
        except UnicodeEncodeError:
            return
        cleaned = without_forbidden_keys(value)
        if cleaned == value:
            self.assertEqual(screen(raw), raw)
        else:
            self.assertEqual(json.loads(screen(raw)), cleaned)


def without_forbidden_keys(value: Any) -> Any:
    if isinstance(value, dict):
        forbidden = ("__proto__", "constructor", "prototype")
        return {k: without_forbidden_keys(v) for k, v in value.items() if k not in forbidden}
    if isinstance(value, list):
        return [without_forbidden_keys(item) for item in value]
    return value
