"""Publications as they travel through Redis: three lines, of which the last is the payload as it is.

::

    number offset born epoch generation     (empty for what is not logged)
    {"e": event, "i": id, "t": time, …}
    payload
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ..messages import Audience, Position, Publication, Sequence


class Head(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The second line. What is empty is left out."""

    e: str
    i: str
    t: int
    a: bool = False
    r: tuple[str, ...] = ()
    u: tuple[str, ...] = ()
    xu: tuple[str, ...] = ()
    xc: tuple[str, ...] = ()
    h: bool = False
    b: bool = False
    s: tuple[str, ...] = ()
    xs: tuple[int, ...] = ()
    os: tuple[int, ...] | None = None
    ou: tuple[str, ...] | None = None
    p: tuple[str, str] | None = None
    k: str = ""
    x: int = 0
    rc: bool = False


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Head).decode

#: Audiences of one room recur with every message.
_NOBODY: Final[frozenset[str]] = frozenset()


def head_of(publication: Publication) -> bytes:
    """The second line of a publication."""
    audience = publication.audience
    return _encode(
        Head(
            publication.event,
            publication.id,
            publication.time,
            audience.everyone,
            tuple(audience.rooms),
            tuple(audience.users),
            tuple(audience.except_users),
            tuple(audience.except_connections),
            publication.history,
            publication.binary,
            publication.splice,
            tuple(audience.except_sessions),
            None if audience.only_sessions is None else tuple(audience.only_sessions),
            None if audience.only_users is None else tuple(audience.only_users),
            publication.publisher,
            publication.loss,
            publication.expires,
            publication.receipt,
        )
    )


def _set(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names) if names else _NOBODY


def parse(text: bytes) -> Publication:
    """The publication of a text.

    :raises ValueError: it is none. (`msgspec.DecodeError` is one.)
    """
    place, line, data = text.split(b"\n", 2)
    position: Position | None = None
    sequence: Sequence | None = None
    if place:
        number, offset, born, name, generation = place.decode().split(" ")
        position = Position(int(offset), f"{name}.{born}")
        sequence = Sequence(name, int(generation), int(number))
    head = _decode(line)
    return Publication(
        head.e,
        data,
        Audience(
            head.a,
            _set(head.u),
            _set(head.r),
            _set(head.xu),
            _set(head.xc),
            frozenset(head.xs),
            None if head.os is None else frozenset(head.os),
            None if head.ou is None else frozenset(head.ou),
        ),
        head.i,
        head.t,
        sequence is not None,
        head.h,
        head.b,
        head.s,
        position,
        sequence,
        head.p,
        head.k,
        head.x,
        head.rc,
    )


def parse_all(texts: Iterable[bytes]) -> list[Publication] | None:
    """The publications of some texts; None if one is unreadable, as another version's may be."""
    try:
        return [parse(text) for text in texts]
    except ValueError:
        return None


def readable(texts: Iterable[bytes]) -> list[Publication]:
    """The publications of those texts that can be read."""
    found = (parse_all((text,)) for text in texts)
    return [publication for one in found if one for publication in one]


def parse_place(text: bytes) -> Sequence:
    """The place that scripts say as ``number epoch generation``."""
    number, name, generation = text.decode().split(" ")
    return Sequence(name, int(generation), int(number))
