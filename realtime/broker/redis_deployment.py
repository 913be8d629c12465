"""`RedisDeployment`: the Redis that a REDIS_URL leads to, whatever it is made of; makes its links."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, succeed

from ..redis_url import RedisAddress
from .cluster import ClusterLocator
from .cluster_link import ClusterLink
from .redis_faults import LinkCounters
from .redis_link import TIMEOUT, Link, SubscriberLink
from .redis_locate import Connector, FixedLocator, Locator, Place
from .redis_protocol import Argument
from .sentinel import SentinelLocator


class RedisDeployment:
    """One server, a primary that Sentinels watch, or a Cluster.

    :param clock: the reactor.
    :param authorities: PEM text of the authorities that are trusted to sign its certificate; the
        system's if it is empty.
    :param timeout: seconds after which a command is given up.
    :param slow: see `Link`.
    :param on_slow: called with a link's name, what a command is called, and the seconds until its answer.
    :ivar cluster: whether keys have slots, and channels may be sharded.
    :ivar replicated: whether a failover may lose what no replica has: then links are to be durable.
    :ivar links: all that it made.
    :ivar called: what a command is called, in a word.
    """

    def __init__(
        self,
        clock: Any,
        address: RedisAddress,
        *,
        authorities: bytes = b"",
        timeout: float = TIMEOUT,
        counters: LinkCounters | None = None,
        slow: float = inf,
        on_slow: Callable[[str, str, float], object] | None = None,
    ) -> None:
        self.cluster = address.kind == "cluster"
        self.replicated = address.kind in ("cluster", "sentinel")
        self.links: list[Link] = []
        self.called: Callable[[tuple[Argument, ...]], str] = _called
        self._address = address
        self._connector = Connector(
            clock,
            user=address.user,
            password=address.password,
            tls=address.tls,
            authorities=authorities,
        )
        self._places = [Place(host, port) for host, port in address.hosts]
        self._more = {
            "timeout": timeout,
            "counters": counters,
            "slow": inf if on_slow is None else slow,
            "on_slow": self._tell_slow,
        }
        self._on_slow = on_slow
        # what all links share; on a Cluster each has its own
        self._shared: Locator | None = None

    def prefix(self, database: int) -> str:
        """With what the names of all keys and channels of one database begin: one slot of a Cluster."""
        return f"realtime:{{{database}}}:" if self.cluster else f"realtime:{database}:"

    def link(self, name: str, key: str, *, durable: bool = False, **more: Any) -> Link:
        """A link for commands; for what else it takes see `Link`.

        :param key: on a Cluster: any key of the slot that the commands are about.
        :param durable: whether replies are given only once a replica has what was written. Without
            effect on one server, which has no replica that would take its place.
        """
        kind = ClusterLink if self.cluster else Link
        replicas = int(durable and self.replicated)
        locator: Any = self._locator(key)
        made = kind(self._connector, locator, name=name, replicas=replicas, **{**self._more, **more})
        self.links.append(made)
        return made

    def subscriber(self, name: str, key: str | None = None, **more: Any) -> SubscriberLink:
        """A link for pub/sub; for what else it takes see `SubscriberLink`.

        :param key: on a Cluster: its channels are sharded, and are those of the slot of this key.
            Without one they are those of classic pub/sub, heard at any node.
        """
        sharded = self.cluster and key is not None
        given = {"sharded": sharded, **self._more, **more}
        made = SubscriberLink(self._connector, self._locator(key), name=name, **given)
        self.links.append(made)
        return made

    def _tell_slow(self, link: str, command: tuple[Argument, ...], seconds: float) -> None:
        # it waits for what is to come
        if self._on_slow is not None and command[0] != "XREAD":
            self._on_slow(link, self.called(command), seconds)

    def stop(self) -> Deferred[None]:
        """End what is watched; called once all links have stopped."""
        return succeed(None) if self._shared is None else self._shared.stop()

    def _locator(self, key: str | None) -> Locator:
        if self.cluster:
            return ClusterLocator(self._connector, self._places, key)
        if self._shared is None:
            self._shared = self._shared_locator()
        return self._shared

    def _shared_locator(self) -> Locator:
        address = self._address
        if address.kind == "sentinel":
            return SentinelLocator(self._connector, self._places, address.service)
        return FixedLocator(Place(path=address.path) if address.path else self._places[0])


def _called(command: tuple[Argument, ...]) -> str:
    return str(command[0])
