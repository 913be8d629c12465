"""Tests of the log's lines."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.logs import ERROR_LENGTH, FIELDS, KINDS, TEXT_LENGTH, Lines, line, text

#: What a client may send to mislead a terminal, or a program that splits lines.
HOSTILE = "a\nb\r\x1b[2J\x07\x00\x7f\x85\x9b\u2028\u2029\u202e\ud800é"


class LineTests(SynchronousTestCase):
    """One event, one line, one JSON object."""

    def told(self, **event: Any) -> dict[str, Any]:
        written = line({"log_level": LogLevel.info, "log_time": 0.0, "log_namespace": "n", **event})
        self.assertTrue(written.endswith("}\n"))
        self.assertTrue(written[:-1].isascii() and written[:-1].isprintable(), written)
        read = json.loads(written)
        assert isinstance(read, dict)
        return read

    def test_fields(self) -> None:
        self.assertEqual(
            self.told(log_time=1700000000.1239, log_format="{count} of {name}", count=3, name="x"),
            {
                "time": "2023-11-14T22:13:20.123Z",
                "level": "info",
                "kind": "service",
                "namespace": "n",
                "message": "3 of x",
                "count": 3,
                "name": "x",
            },
        )

    def test_order(self) -> None:
        """What every line has comes first, so that people can read it."""
        self.assertEqual(list(self.told(z=1))[:5], ["time", "level", "kind", "namespace", "message"])

    def test_hostile_text(self) -> None:
        """Control characters, in a message, a field or a field's name, can't leave the line."""
        read = self.told(log_format="{text}", text=HOSTILE, **{HOSTILE: 1})
        self.assertEqual(read["message"], HOSTILE)
        self.assertEqual(read["text"], HOSTILE)
        self.assertEqual(read[HOSTILE], 1)

    def test_plain_values(self) -> None:
        """Numbers, text, booleans and null stay what they are; bytes become text."""
        read = self.told(a=1, b=1.5, c=True, d=None, e="e", f=b"\xfff")
        self.assertEqual(
            {name: read[name] for name in "abcdef"},
            {"a": 1, "b": 1.5, "c": True, "d": None, "e": "e", "f": "\\xfff"},
        )

    def test_no_json_numbers(self) -> None:
        """What JSON has no number for is text."""
        read = self.told(a=float("nan"), b=float("inf"), c=10**400)
        self.assertEqual([read[name] for name in "ab"], ["nan", "inf"])
        self.assertIsInstance(read["c"], str)

    def test_nested_values_are_left_out(self) -> None:
        read = self.told(a=[1], b={"c": 1}, d=object(), log_source=object(), log_logger=object())
        self.assertEqual(set(read), {"time", "level", "kind", "namespace", "message"})

    def test_own_fields_win(self) -> None:
        """An event can't forge what every line has."""
        read = self.told(
            log_format="m", time=5, level="critical", kind="own", namespace="other", message="f", error="e"
        )
        self.assertEqual(
            read,
            {
                "time": "1970-01-01T00:00:00.000Z",
                "level": "info",
                "kind": "service",
                "namespace": "n",
                "message": "m",
            },
        )

    def test_length(self) -> None:
        """Long texts are cut, and the cut is seen."""
        long = "x" * 100_000
        read = self.told(
            log_format="{text}", text=long, bytes=long.encode(), log_namespace=long, **{long: 1}
        )
        for name in ("message", "text", "bytes", "namespace"):
            self.assertEqual(len(read[name]), TEXT_LENGTH)
            self.assertTrue(read[name].endswith("x…"))
        self.assertEqual(max(map(len, read)), 64)

    def test_number_of_fields(self) -> None:
        self.assertEqual(len(self.told(**{f"f{number}": 1 for number in range(1000)})), 5 + FIELDS)

    def test_failure(self) -> None:
        """The traceback is one field of the same line; it shows no values of variables."""
        secret = "a value that must not be shown"
        read = self.told(log_format="it broke", log_failure=_failure(secret))
        self.assertEqual(read["message"], "it broke")
        self.assertIn("ZeroDivisionError", read["error"])
        self.assertNotIn(secret, read["error"])

    def test_failure_without_message(self) -> None:
        self.assertEqual(self.told(log_failure=_failure())["message"], "failure")
        self.assertEqual(self.told(log_failure=_failure(), why="on start")["message"], "on start")

    def test_long_failure(self) -> None:
        """The end is kept, where the error is."""
        read = self.told(log_failure=Failure(ValueError("x" * 100_000 + "end")))
        self.assertEqual(len(read["error"]), ERROR_LENGTH)
        self.assertIn("xend", read["error"])

    def test_failure_that_fails(self) -> None:
        class Broken:
            def getTraceback(self) -> str:
                raise RuntimeError

        self.assertEqual(self.told(log_failure=Broken())["error"], "a failure that can't be shown")

    def test_broken_format(self) -> None:
        """A format that does not fit the event still gives a line."""
        self.assertTrue(self.told(log_format="{missing} {0} {")["message"])

    def test_bare_event(self) -> None:
        """An event without anything is a line."""
        self.assertEqual(
            json.loads(line({})),
            {"time": "", "level": "info", "kind": "service", "namespace": "", "message": ""},
        )

    def test_kind(self) -> None:
        """What a line is about is what its event says; else it is an error, or of the service."""
        for kind in KINDS:
            self.assertEqual(self.told(kind=kind)["kind"], kind)
        for event, kind in (
            ({"log_failure": _failure()}, "error"),
            ({"log_level": LogLevel.error}, "error"),
            ({"log_level": LogLevel.critical}, "error"),
            ({"log_level": LogLevel.warn}, "service"),
            ({"kind": ["unhashable"]}, "service"),
        ):
            self.assertEqual(self.told(**event)["kind"], kind)


class TextTests(SynchronousTestCase):
    """Lines for people."""

    def told(self, **event: Any) -> str:
        written = text({"log_level": LogLevel.info, "log_time": 0.0, "log_namespace": "n", **event})
        for part in written.splitlines():
            self.assertTrue(part.isascii() and part.isprintable(), written)
        return written

    def test_line(self) -> None:
        """Time, level, kind, message; then the fields that the message does not say already."""
        told = self.told(log_format="{count} of {name}", kind="message", count=3, name="x", user="a b", n=1)
        self.assertRegex(told, r'^\d\d:\d\d:\d\d info     message     3 of x  user="a b"  n=1\n$')

    def test_values(self) -> None:
        """Texts that are not one word are in quotes; what JSON has no number for is text."""
        told = self.told(a="one", b="two words", c='q"', d="", e="x=y", f=None, g=float("nan"), h=True)
        self.assertTrue(
            told.endswith('a=one  b="two words"  c="q\\""  d=""  e="x=y"  f=null  g=nan  h=true\n'), told
        )

    def test_hostile_text(self) -> None:
        """Control characters can't leave the line."""
        told = self.told(log_format="{text}", text=HOSTILE, more=HOSTILE, **{HOSTILE: 1})
        self.assertEqual(told.count("\n"), 1)

    def test_failure(self) -> None:
        """A traceback is in lines of its own, which are as safe."""
        told = self.told(log_format="it broke", log_failure=Failure(ValueError(HOSTILE)))
        first, *rest = told.splitlines()
        self.assertTrue(first.endswith("error       it broke"), first)
        self.assertTrue(rest and all(part.startswith("    ") for part in rest))

    def test_bare_event(self) -> None:
        self.assertEqual(text({}), "--:--:-- info     service     \n")


class ObserverTests(SynchronousTestCase):
    """The observer takes events as Twisted makes them."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        self.publisher = LogPublisher(Lines(self.lines.append))
        self.log = Logger(namespace="realtime.test", observer=self.publisher)

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(ILogObserver, Lines(self.lines.append)))

    def test_levels(self) -> None:
        """Each level says its name; debug, where libraries write whole requests, is left out."""
        for level in LogLevel.iterconstants():
            self.log.emit(level, "m")
        read = [json.loads(written) for written in self.lines]
        self.assertEqual([entry["level"] for entry in read], ["info", "warn", "error", "critical"])
        self.assertEqual({entry["namespace"] for entry in read}, {"realtime.test"})

    def test_log_failure(self) -> None:
        """A logged failure is an error with its traceback."""
        self.log.failure("it broke", _failure())
        (written,) = self.lines
        read = json.loads(written)
        self.assertEqual((read["level"], read["message"]), ("critical", "it broke"))
        self.assertIn("ZeroDivisionError", read["error"])

    def test_legacy_events(self) -> None:
        """Events of Twisted's older log functions become lines too, without their own odd fields."""
        publisher = legacy.LogPublisher(publishPublisher=self.publisher)
        publisher.msg("hello", "there", system="old", count=2)
        (written,) = self.lines
        read = json.loads(written)
        self.assertEqual((read["message"], read["level"], read["count"]), ("hello there", "info", 2))
        self.assertEqual(set(read), {"time", "level", "kind", "namespace", "message", "count"})

    def test_never_raises(self) -> None:
        """Neither a full disk nor a hostile object stops the process, or stops the next line."""
        full = True

        def write(text: str) -> None:
            if full:
                raise OSError("no space left")
            self.lines.append(text)

        class Hostile:
            def __str__(self) -> str:
                raise RuntimeError

            __repr__ = __str__

        observer = Lines(write)
        observer({"log_format": "m", "log_level": LogLevel.info})
        full = False
        observer({"log_namespace": Hostile(), "log_level": LogLevel.info})
        observer({"log_format": "{x}", "x": Hostile(), "log_level": LogLevel.info})
        observer({"log_format": "m", "log_level": LogLevel.info})
        self.assertEqual(json.loads(self.lines[-1])["message"], "m")


def _failure(value: object = None) -> Failure:
    try:
        return 1 / 0  # type: ignore[return-value]
    except ZeroDivisionError:
        return Failure()
