"""Strangers: connections that have shown nothing yet, so many at most, in all and per address."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Strangers(Generic[K]):
    """Who is a stranger, oldest first. Where there are too many, the oldest gives way to the newcomer.

    :param limit: how many there may be in all.
    :param per_address: how many of one address.
    """

    def __init__(self, limit: int, per_address: int) -> None:
        self._limit = limit
        self._per_address = per_address
        self._all: OrderedDict[K, str] = OrderedDict()
        self._of: dict[str, OrderedDict[K, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, key: K) -> bool:
        return key in self._all

    def add(self, key: K, address: str) -> K | None:
        """Take in a newcomer, and give the one that had to make room for it, if any."""
        neighbours = self._of.get(address, ())
        evicted: K | None = None
        if len(neighbours) >= self._per_address:
            evicted = next(iter(neighbours))
        elif len(self._all) >= self._limit:
            evicted = next(iter(self._all))
        if evicted is not None:
            self.remove(evicted)
        self._all[key] = address
        self._of.setdefault(address, OrderedDict())[key] = None
        return evicted

    def remove(self, key: K) -> None:
        """The key is no stranger any more; does nothing if it is none."""
        address = self._all.pop(key, None)
        if address is not None:
            neighbours = self._of[address]
            del neighbours[key]
            if not neighbours:
                del self._of[address]
