"""The log: JSON lines, or text; safe to read in a terminal and for programs to parse.

Fields: ``time`` (ISO 8601, UTC), ``level``, ``kind`` (one of `KINDS`), ``namespace``, ``message``, the
plain fields of the event, and ``error`` with the traceback of a failure. Events of level debug are left
out: libraries write whole requests there, and a request may hold a token.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

#: Characters that are kept of a message or a field, and of a traceback.
TEXT_LENGTH: Final = 256
ERROR_LENGTH: Final = 16384
#: Fields of an event that are kept.
FIELDS: Final = 24

#: What Twisted's older log functions add to an event.
_LEGACY: Final = frozenset(("failure", "format", "isError", "message", "printed", "system", "time", "why"))
_OWN: Final = frozenset(("level", "kind", "namespace", "error"))

#: What a line is about. An event says it as its ``kind``; one that does not is an error or of the service.
KINDS: Final = ("connection", "message", "error", "performance", "security", "service")


@implementer(ILogObserver)
class Lines:
    """Writes each event as one line. Never raises.

    :param write: takes a line that ends in a newline, ASCII only.
    :param form: makes the line of an event: `line` or `text`.
    """

    def __init__(
        self, write: Callable[[str], object], form: Callable[[LogEvent], str] | None = None
    ) -> None:
        self._write = write
        self._form = line if form is None else form

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.debug:
            return
        # a full disk or a closed pipe: there is nowhere left to say so
        with contextlib.suppress(Exception):
            self._write(self._form(event))


def line(event: LogEvent) -> str:
    """The line of an event.

    Control characters and all beyond ASCII are escaped: neither a terminal nor a program that
    splits lines at U+2028 can be misled by what a client sent.
    """
    level = event.get("log_level")
    told: dict[str, Any] = {
        "time": _time(event.get("log_time")),
        "level": getattr(level, "name", "info"),
        "kind": _kind(event),
        "namespace": _cut(str(event.get("log_namespace", "")), TEXT_LENGTH),
        "message": _cut(_message(event), TEXT_LENGTH),
    }
    told.update(_fields(event))
    failure = event.get("log_failure")
    if failure is not None:
        told["error"] = _traceback(failure)
    return json.dumps(told, allow_nan=False, separators=(",", ":")) + "\n"


def text(event: LogEvent) -> str:
    """The line of an event for people; a traceback follows in lines of its own. As safe as `line`."""
    seconds, level = event.get("log_time"), getattr(event.get("log_level"), "name", "info")
    time = f"{datetime.fromtimestamp(seconds):%H:%M:%S}" if isinstance(seconds, float) else "--:--:--"
    told = f"{time} {level:<8} {_kind(event):<11} {_escaped(_cut(_message(event), TEXT_LENGTH))}"
    form = str(event.get("log_format", ""))
    for name, value in _fields(event):
        # what the message says already is not said again
        if f"{{{name}}}" not in form:
            told += f"  {_escaped(name)}={_shown(value)}"
    failure = event.get("log_failure")
    if failure is not None:
        told += "".join(f"\n    {_escaped(part)}" for part in _traceback(failure).splitlines())
    return told + "\n"


def _escaped(text: str) -> str:
    """Without control characters, and ASCII only."""
    return json.dumps(text)[1:-1].replace('\\"', '"')


def _shown(value: str | float | None) -> str:
    """A value of a field: text in quotes where it would not be seen to be one word."""
    told = json.dumps(value)
    return told[1:-1] if isinstance(value, str) and re.fullmatch(r'"[^\s"\\=]+"', told) else told


def _kind(event: LogEvent) -> str:
    kind = event.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        return kind
    bad = event.get("log_failure") is not None or event.get("log_level") in (
        LogLevel.error,
        LogLevel.critical,
    )
    return "error" if bad else "service"


def _time(seconds: object) -> str:
    if not isinstance(seconds, float):
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _message(event: LogEvent) -> str:
    message = formatEvent(event)
    if not message and event.get("log_failure") is not None:
        return str(event.get("why") or "failure")
    return message


def _fields(event: LogEvent) -> Iterator[tuple[str, Any]]:
    """The fields of the event that are plain values; what is nested is left out."""
    kept = 0
    for name, value in event.items():
        if name.startswith("log_") or name in _LEGACY or name in _OWN:
            continue
        if value is not None and not isinstance(value, str | bytes | bool | int | float):
            continue
        if kept == FIELDS:
            return
        kept += 1
        yield _cut(name, 64), _plain(value)


def _plain(value: str | bytes | float | None) -> str | float | None:
    """A value that JSON can hold."""
    if isinstance(value, bytes):
        return _cut(value.decode("utf-8", "backslashreplace"), TEXT_LENGTH)
    if isinstance(value, str):
        return _cut(str(value), TEXT_LENGTH)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number of more than 64 bits"
    return value


def _traceback(failure: Any) -> str:
    """The end of the traceback, where the error is. Values of variables are not in it."""
    try:
        text = str(failure.getTraceback())
    except Exception:
        return "a failure that can't be shown"
    return text if len(text) <= ERROR_LENGTH else "…" + text[1 - ERROR_LENGTH :]
