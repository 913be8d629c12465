"""Configuration file: what is structured, in TOML (REALTIME_CONFIG): rooms, routes, keys, words, limits.

A key that nobody knows is an error, which names the nearest one that is known. Files of words and of
patterns are found from the folder of the configuration file, one word or pattern a line, ``#`` begins
a comment.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from .events import CLIENT_EVENTS
from .names import NAME_LENGTH, valid_room, valid_service
from .settings import ConfigError

#: Bytes of one file; entries of one list; words, and patterns, in all; characters of one of them.
MAX_FILE: Final = 1_048_576
MAX_ENTRIES: Final = 1000
MAX_WORDS: Final = 50_000
MAX_PATTERNS: Final = 200
MAX_WORD: Final = 200

#: What becomes of a message that the filter finds something in.
Mode = Literal["off", "flag", "mask", "reject"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file."""


_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Word = Annotated[str, Meta(min_length=1, max_length=MAX_WORD)]
_Count = Annotated[int, Meta(ge=1, le=1_000_000)]
_Window = Annotated[int, Meta(ge=100, le=86_400_000)]
_Score = Annotated[float, Meta(ge=0, le=1000)]


class RoomRule(Section, frozen=True):
    """Who may do what in the rooms that match; of the rules that match, the first counts.

    :ivar pattern: a room id, or the beginning of one and ``*``.
    :ivar join, publish, history, presence: each a list of ``everyone``, ``nobody``, ``granted`` (the
        token names the room in ``rooms``), ``role:NAME``, ``user:ID``.
    :ivar filter: what becomes of messages that the filter finds something in; as in ``[content]`` if
        left out.
    """

    pattern: Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH)]
    join: tuple[str, ...] = ("everyone",)
    publish: tuple[str, ...] = ("everyone",)
    history: tuple[str, ...] = ("everyone",)
    presence: tuple[str, ...] = ("everyone",)
    filter: Mode | None = None


class RouteRule(Section, frozen=True):
    """Who gets what a service publishes to ``{service}:{action}``."""

    service: _Name
    audience: Literal["owner", "event or everyone", "named", "everyone"]


class KeyRule(Section, frozen=True):
    """A key of the HTTP API: of whom, its SHA-256, for which channels and for what, and until when."""

    name: _Name
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    channels: tuple[_Name, ...] = ()
    scopes: tuple[Literal["publish", "read", "moderate"], ...] = ("publish",)
    until: datetime | None = None


class ContentRule(Section, frozen=True):
    """What is looked for in texts.

    :ivar languages: of the word lists that come along.
    :ivar allow: words that are good although they hold one that is not.
    """

    mode: Mode = "off"
    languages: tuple[_Name, ...] = ()
    words: tuple[_Word, ...] = ()
    word_files: tuple[str, ...] = ()
    allow: tuple[_Word, ...] = ()
    allow_files: tuple[str, ...] = ()
    patterns: tuple[_Word, ...] = ()
    pattern_files: tuple[str, ...] = ()


class SpamRule(Section, frozen=True):
    """What counts how much as spam, and from which score a message is refused.

    A user's score becomes less by itself: to half of it within `half_life_ms`.
    """

    enabled: bool = False
    threshold: _Score = 10.0
    half_life_ms: _Window = 30_000
    repeat: _Score = 3.0
    link: _Score = 2.0
    room: _Score = 1.0
    message: _Score = 0.2


class EventLimit(Section, frozen=True):
    """So many of one event, of one user, over a time."""

    messages: _Count
    window_ms: _Window = 60_000


class LimitRules(Section, frozen=True):
    """Limits of single events, beside RATE_LIMIT_MAX_MESSAGES for all of them."""

    events: dict[str, EventLimit] = {}


class Config(msgspec.Struct, frozen=True):
    """What a file says, with the words and patterns of the files that it names.

    :ivar reserved: beginnings of room ids that no client may join, publish to or see.
    """

    rooms: tuple[RoomRule, ...] = ()
    routes: tuple[RouteRule, ...] = ()
    api_keys: tuple[KeyRule, ...] = ()
    reserved: tuple[str, ...] = ()
    content: ContentRule = ContentRule()
    spam: SpamRule = SpamRule()
    limits: LimitRules = LimitRules()


#: The tables of the file: one each, or a list of them.
_TABLES: Final[dict[str, type[Section]]] = {"content": ContentRule, "spam": SpamRule, "limits": LimitRules}
_LISTS: Final[dict[str, type[Section]]] = {
    "rooms": RoomRule,
    "routes": RouteRule,
    "api_keys": KeyRule,
}


def load(path: str) -> Config:
    """Read a file; the empty path stands for one that says nothing.

    :raises ConfigError: with everything that is wrong.
    """
    if not path:
        return Config()
    place = Path(path)
    try:
        told = tomllib.loads(_text(place))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(_fault(path, f"it is not TOML: {error}")) from None
    found, faults = _read(told)
    if not faults:
        config = Config(**found)
        faults += list(_wrong(config))
        if not faults:
            return _with_files(config, place)
    raise ConfigError(*(_fault(path, fault) for fault in faults))


def _fault(path: str, text: str) -> str:
    return f"REALTIME_CONFIG={path!a}: {text}"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ConfigError(_fault(str(path), f"it is over {MAX_FILE} bytes"))
        return data.decode()
    except OSError as error:
        raise ConfigError(_fault(str(path), f"can't be read ({error.strerror})")) from None
    except UnicodeDecodeError:
        raise ConfigError(_fault(str(path), "it is not UTF-8")) from None


def _read(told: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What could be read of each table, and what could not."""
    found: dict[str, Any] = {}
    faults: list[str] = []
    for name, value in told.items():
        if name in _TABLES:
            found[name] = _table(value, _TABLES[name], name, faults)
        elif name in _LISTS:
            if not isinstance(value, list) or len(value) > MAX_ENTRIES:
                faults.append(f"{name}: expected at most {MAX_ENTRIES} tables [[{name}]]")
                continue
            found[name] = tuple(
                _table(entry, _LISTS[name], f"{name}[{index}]", faults) for index, entry in enumerate(value)
            )
        elif name == "reserved":
            found[name] = tuple(_table(value, tuple[_Name, ...], name, faults) or ())
        else:
            faults.append(f"{name} is not known{_near(name, (*_TABLES, *_LISTS, 'reserved'))}")
    return found, faults


def _table(value: Any, kind: Any, name: str, faults: list[str]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        at = f"{name}{place.rstrip('`')}"
        if unknown := re.match(r"Object contains unknown field `(.*)`", message, re.DOTALL):
            word = unknown[1][:64]
            faults.append(f"{at}.{word!a}: is not known{_near(word, _fields(kind))}")
        else:
            faults.append(f"{at}: {message[:200]}")
        return None


def _fields(kind: Any) -> Iterator[str]:
    """The names of a table's keys, and of those of tables in it."""
    for name, hint in get_type_hints(kind).items() if isinstance(kind, type) else ():
        yield name
        for inner in get_args(hint):
            if isinstance(inner, type) and issubclass(inner, Section):
                yield from _fields(inner)


def _near(word: str, known: Any) -> str:
    names = [*known]
    near = difflib.get_close_matches(word, names, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else f"; accepted are {', '.join(names)}"


def _wrong(config: Config) -> Iterator[str]:
    """What is right as a value and wrong in its place."""
    for index, rule in enumerate(config.rooms):
        if not valid_pattern(rule.pattern):
            yield f"rooms[{index}].pattern: expected a room id, or the beginning of one and *"
        for name in ("join", "publish", "history", "presence"):
            for who in getattr(rule, name):
                if not _valid_who(who):
                    yield (
                        f"rooms[{index}].{name}: {who[:64]!a}: accepted are"
                        " everyone, nobody, granted, role:NAME, user:ID"
                    )
    for index, route in enumerate(config.routes):
        if not valid_service(route.service) or route.service in ("event", "room", "user", "role"):
            yield f"routes[{index}].service: expected the name of a service"
    names = [key.name for key in config.api_keys]
    for index, key in enumerate(config.api_keys):
        if key.until is not None and key.until.tzinfo is None:
            yield f"api_keys[{index}].until: expected a time with its zone, such as 2030-01-31T12:00:00Z"
        if names.index(key.name) != index:
            yield f"api_keys[{index}].name: {key.name!a} is there already; name each key of a service apart"
    for index, prefix in enumerate(config.reserved):
        if not valid_pattern(f"{prefix}*"):
            yield f"reserved[{index}]: expected the beginning of a room id, such as staff:"
    for event in config.limits.events:
        if event not in CLIENT_EVENTS:
            yield f"limits.events.{event[:64]!a} is no event{_near(event, CLIENT_EVENTS)}"


def valid_pattern(pattern: str) -> bool:
    """Whether a text is a room id, or the beginning of one followed by ``*``, or ``*`` alone."""
    if pattern == "*":
        return True
    # any character stands for the rest of the name where a pattern is cut
    return valid_room(pattern[:-1] + "x" if pattern.endswith("*") else pattern)


def _valid_who(who: str) -> bool:
    kind, _, name = who.partition(":")
    if kind in ("role", "user"):
        return bool(name)
    return who in ("everyone", "nobody", "granted")


def _with_files(config: Config, path: Path) -> Config:
    """With what stands in the files that it names."""
    content = config.content
    words = (*content.words, *_lines(content.word_files, path))
    allow = (*content.allow, *_lines(content.allow_files, path))
    patterns = (*content.patterns, *_lines(content.pattern_files, path))
    for name, found, limit in (
        ("words", words, MAX_WORDS),
        ("allow", allow, MAX_WORDS),
        ("patterns", patterns, MAX_PATTERNS),
    ):
        if len(found) > limit:
            raise ConfigError(_fault(str(path), f"content.{name}: there are over {limit}"))
        if any(len(word) > MAX_WORD for word in found):
            raise ConfigError(_fault(str(path), f"content.{name}: one is over {MAX_WORD} characters"))
    return msgspec.structs.replace(
        config, content=msgspec.structs.replace(content, words=words, allow=allow, patterns=patterns)
    )


def _lines(names: tuple[str, ...], path: Path) -> Iterator[str]:
    for name in names:
        for line in _text(path.parent / name).splitlines():
            text = line.strip()
            if text and not text.startswith("#"):
                yield text
