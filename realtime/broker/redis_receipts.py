"""RedisReceipts: the receipts of a deployment, in Redis.

``P:receipt:<id>`` is a hash: ``#`` is when it was made and until when acknowledgements are awaited, a
connection's id its rank and user, and ``+<node>`` what a node says of the connections beyond those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from .receipts import WATCHED, IReceiptStore, Mark, Marks, Receipt, counted
from .redis import RedisBroker

_pack: Final = msgspec.msgpack.Encoder().encode


@implementer(IReceiptStore)
class RedisReceipts:
    """Keeps them in Redis; publish.lua opens them."""

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker

    def note(self, marks: Sequence[Marks]) -> Deferred[frozenset[str]]:
        told = [(one.id, _flat(one.marks), _counts(one.beyond)) for one in marks]
        noting = self._broker.run("note_receipts", self._broker.node, _pack(told))
        return noting.addCallback(lambda answer: frozenset(name.decode() for name in answer[1:]))

    def read(self, ids: Sequence[str]) -> Deferred[list[Receipt | None]]:
        reading = self._broker.read("receipts", *ids)
        return reading.addCallback(
            lambda answer: [_receipt(name, found) for name, found in zip(ids, answer[1:], strict=True)]
        )

    def watch(self) -> Deferred[None]:
        return self._broker.run("watch_receipts", round(WATCHED * 1000)).addCallback(lambda _: None)


def _flat(marks: Sequence[Mark]) -> list[Any]:
    return [part for mark in marks for part in (mark.connection, mark.rank, mark.user)]


def _counts(beyond: tuple[int, int, int] | None) -> str:
    return "" if beyond is None else " ".join(map(str, beyond))


def _receipt(name: str, found: list[bytes]) -> Receipt | None:
    marks, beyond = [], []
    made = until = 0
    for field, value in zip(found[::2], found[1::2], strict=True):
        if field == b"#":
            made, until = map(int, value.split(b" "))
        elif field.startswith(b"+"):
            beyond.append([int(count) for count in value.split(b" ")])
        else:
            rank, _, user = value.decode().partition(" ")
            marks.append(Mark(field.decode(), user, int(rank)))
    if not made:
        return None
    return Receipt(name, made, until, counted(marks, beyond), tuple(marks))
