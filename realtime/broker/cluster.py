"""`ClusterLocator`: which node of a Redis Cluster serves a key; and any node, for classic pub/sub."""

from __future__ import annotations

import binascii
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, succeed

from .redis_link import settled
from .redis_locate import LAST_DELAY, Connector, Place, Unlocated, WrongServer, check_primary
from .redis_protocol import RedisConnection, RedisError

SLOTS: Final = 16384
#: Seconds that a node has for its answer, and for being connected.
_TIMEOUT: Final = 0.5
#: Nodes that are asked at a time, and those that are remembered.
_ASKED: Final = 5
_KNOWN: Final = 64
_MOVED: Final = re.compile(r"MOVED \d+ (?P<host>.*):(?P<port>\d+)")


def slot_of(key: bytes) -> int:
    """The slot of a key: of what is between its first ``{`` and the next ``}``, if that is something."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    tagged = key[start + 1 : end] if 0 <= start < end - 1 else key
    return binascii.crc_hqx(tagged, 0) % SLOTS


class ClusterLocator:
    """Asks some nodes, and believes what most of them say.

    :param nodes: some nodes of the cluster; others are learnt from them.
    :param key: whose primary is looked for; None for any node that answers.
    """

    last_delay = LAST_DELAY

    def __init__(
        self,
        connector: Connector,
        nodes: Sequence[Place],
        key: str | None,
        rng: random.Random | None = None,
    ) -> None:
        self.key = key
        self._connector = connector
        self._seeds = list(nodes)
        self._learnt: list[Place] = []
        self._slot = None if key is None else slot_of(key.encode())
        self._hint: Place | None = None
        self._random = rng or random.Random()  # noqa: S311

    # -- Locator

    def locate(self) -> Deferred[Place]:
        hint, self._hint = self._hint, None
        return succeed(hint) if hint is not None else self.ask()

    def check(self, connection: RedisConnection, server: Mapping[str, str]) -> Deferred[None]:
        if server.get("redis_mode") != "cluster":
            raise WrongServer("no_cluster")
        return succeed(None) if self.key is None else check_primary(connection)

    def hint(self, error: RedisError) -> bool:
        found = _MOVED.match(error.text)
        if found is None or not found["host"]:
            return found is not None
        self._hint = Place(found["host"], int(found["port"]))
        return True

    def follow(self, moved: Callable[[], None]) -> None:
        pass

    def unfollow(self, moved: Callable[[], None]) -> None:
        pass

    def stop(self) -> Deferred[None]:
        return succeed(None)

    # -- the nodes

    def ask(self) -> Deferred[Place]:
        """Ask some nodes, whatever was heard before."""
        asked = self._some()
        answers = [Deferred.fromCoroutine(self._slots(node)) for node in asked]

        def told(results: list[tuple[bool, Any]]) -> Place:
            good = {node: answer for node, (success, answer) in zip(asked, results, strict=True) if success}
            if not good:
                texts = [str(failure.value) for success, failure in results if not success]
                raise Unlocated(
                    "no_cluster" if any("support disabled" in one for one in texts) else "no_node"
                )
            self._learn(good)
            if self._slot is None:
                return self._random.choice(list(good))
            owners = Counter(
                owner
                for node, slots in good.items()
                if (owner := _owner(slots, self._slot, node)) is not None
            )
            if not owners:
                raise Unlocated("unserved")
            return owners.most_common(1)[0][0]

        return DeferredList(answers, consumeErrors=True).addCallback(told)

    def _some(self) -> list[Place]:
        """Some of the nodes, chosen by chance; one of those that were configured among them."""
        known = list(dict.fromkeys([self._random.choice(self._seeds), *self._seeds, *self._learnt]))
        return [known[0], *self._random.sample(known[1:], min(_ASKED, len(known)) - 1)]

    def _learn(self, answers: Mapping[Place, list[Any]]) -> None:
        nodes = (
            _place(node, asked)
            for asked, slots in answers.items()
            for _, _, *serving in slots
            for node in serving
        )
        self._learnt = list(dict.fromkeys(node for node in nodes if node is not None))[:_KNOWN]

    async def _slots(self, node: Place) -> list[Any]:
        connection = RedisConnection(self._connector.clock, _TIMEOUT)
        try:
            await self._connector.connect(node, connection, _TIMEOUT)
            login = self._connector.log_in(connection)
            _, slots = await settled([login, connection.command("CLUSTER", "SLOTS")])
        finally:
            connection.abort()
        answer: list[Any] = slots
        return answer


def _owner(slots: list[Any], slot: int, asked: Place) -> Place | None:
    for low, high, primary, *_ in slots:
        if low <= slot <= high:
            return _place(primary, asked)
    return None


def _place(node: list[Any], asked: Place) -> Place | None:
    """Where a node is; its host may be unknown, or be that of the node which was asked."""
    host, port = node[:2]
    if host == b"?":
        return None
    return Place(host.decode() if host else asked.host, port)
