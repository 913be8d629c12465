"""Kinds of setting: how a value is written as text, what is accepted, what it becomes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

#: A year in milliseconds: the longest time any setting accepts.
YEAR: Final = 31_536_000_000
DAY: Final = 86_400_000
BIG: Final = 2_147_483_647


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    :ivar name: its type, or the unit of a number, for people.
    :ivar accepted: the text that is accepted, for people; completes "accepted is …".
    :ivar parse: text to value; raises `ValueError` for what is not accepted.
    :ivar show: value to the text that `parse` reads as that value.
    :ivar empty: the value of a setting that is not set and has no default.
    """

    name: str
    accepted: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str
    empty: Any = ""


def _number(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 15 and low <= int(text) <= high):
        raise ValueError(text)
    return int(text)


def integer(low: int, high: int = BIG, unit: str = "integer") -> Kind:
    """A whole number, both bounds accepted."""
    return Kind(unit, f"a whole number from {low} to {high}", lambda text: _number(text, low, high))


def milliseconds(low: int, high: int = DAY) -> Kind:
    """A time, written in whole milliseconds; the value is in seconds."""
    return Kind(
        "milliseconds",
        f"milliseconds from {low} to {high}",
        lambda text: _number(text, low, high) / 1000,
        lambda seconds: str(round(seconds * 1000)),
    )


def matching(pattern: str, name: str, accepted: str) -> Kind:
    """Text that matches a regular expression as a whole."""
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(text)
        return text

    return Kind(name, accepted, parse)


def choice(*words: str) -> Kind:
    """One of some words."""
    return matching("|".join(words), "word", " or ".join(words))


def secret(minimum: int) -> Kind:
    """Text of at least `minimum` bytes in UTF-8."""

    def parse(text: str) -> str:
        if len(text.encode()) < minimum:
            raise ValueError
        return text

    return Kind("secret", f"at least {minimum} bytes", parse)


def several(item: Kind) -> Kind:
    """A list, separated by commas; the value is a tuple without repetitions."""

    def parse(text: str) -> tuple[Any, ...]:
        parts = (part.strip() for part in text.split(","))
        return tuple(dict.fromkeys(item.parse(part) for part in parts if part))

    return Kind(
        f"list of {item.name}s",
        f"a comma-separated list, each {item.accepted}",
        parse,
        lambda values: ",".join(map(item.show, values)),
        (),
    )


_SWITCH: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def _boolean(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError(text)
    return _SWITCH[text.lower()]


def _address(text: str) -> str:
    return "127.0.0.1" if text == "localhost" else str(ipaddress.ip_address(text))


_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def _path(text: str) -> str:
    path = text.rstrip("/")
    if _PATH.fullmatch(path) is None or {".", ".."} & set(path.split("/")):
        raise ValueError(text)
    return path


_LABELS: Final = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
_ORIGIN: Final = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://((\*\.)?{_LABELS}|\[(?P<ipv6>[0-9a-f:.]+)\])(:(?P<port>[0-9]+|\*))?"
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def _origin(text: str) -> str:
    """The origin as a browser writes it: lower case, without the scheme's own port."""
    origin = text.lower()
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise ValueError(text)
    if found["ipv6"] is not None:
        origin = origin.replace(found["ipv6"], str(ipaddress.IPv6Address(found["ipv6"])))
    if found["port"] not in (None, "*"):
        port = _number(found["port"], 1, 65535)
        origin = origin.removesuffix(":" + found["port"])
        if port != _DEFAULT_PORTS.get(found["scheme"]):
            origin += f":{port}"
    return origin


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


def _url(text: str) -> str:
    """A URL that nobody on the way can read or change: https, or this machine."""
    parts = urlsplit(text)
    host = parts.hostname
    if not host or parts.username is not None or parts.fragment or not text.isascii() or " " in text:
        raise ValueError(text)
    if parts.port == 0:
        raise ValueError(text)
    if parts.scheme == "http":
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(text)
    elif parts.scheme != "https":
        raise ValueError(text)
    return text


def _instant(text: str) -> float:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment.timestamp()


def _shown_instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z") if seconds else ""


PORT: Final = integer(0, 65535, "port")
BYTES: Final = integer(1, BIG, "bytes")
COUNT: Final = integer(1, BIG, "count")
BOOLEAN: Final = Kind("boolean", "true or false", _boolean, lambda value: str(value).lower())
TEXT: Final = matching(r"[^\x00-\x1f\x7f-\x9f]+", "text", "text without control characters")
KEY: Final = matching(r"[!-~]+", "secret", "printable ASCII without spaces")
ADDRESS: Final = Kind("address", "an IP address of this machine, or localhost", _address)
PATH: Final = Kind("path", "a path that starts with /, such as /socket.io", _path)
ORIGIN: Final = Kind(
    "origin",
    "scheme://host or scheme://host:port (the host may start with *. for all below it,"
    " the port may be * for any)",
    _origin,
)
NETWORK: Final = Kind("network", "an address, or a network such as 10.0.0.0/8", _network)
URL: Final = Kind("url", "an https:// URL, or an http:// URL of this machine", _url)
INSTANT: Final = Kind(
    "time", "a time with its zone, such as 2030-01-31T12:00:00Z", _instant, _shown_instant, 0.0
)
ALGORITHM: Final = choice(
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
