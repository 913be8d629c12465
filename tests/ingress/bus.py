"""Bus: a memory broker and its state store, as ingress sees them, and what they deliver."""

from __future__ import annotations

from twisted.internet.task import Clock
from zope.interface import implementer

from realtime.broker.interface import IDelivery, IPeer, Limits
from realtime.broker.memory import MemoryBroker
from realtime.broker.memory_receipts import MemoryReceipts
from realtime.broker.memory_state import MemoryStateStore
from realtime.ingress.publish import Ingest
from realtime.messages import Owner, Publication
from realtime.metrics import Metrics
from realtime.presence import Announcer
from realtime.routing import Routing

START = 1_700_000_000.0


@implementer(IDelivery, IPeer)
class Bus:
    """One node's bus, started.

    :ivar delivered: what services published and the node was handed.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.delivered: list[Publication] = []
        self.broker = MemoryBroker(
            self.clock,
            retention=120,
            idempotency=120,
            max_messages=100,
            max_bytes=10**6,
            history=10,
            history_ttl=600,
            max_channels=1000,
            max_total=10**7,
        )
        self.store = MemoryStateStore(
            self.clock, self.broker, Announcer(self.wall), window=120, wall=self.wall
        )
        self.receipts = MemoryReceipts(
            self.broker, self.wall, timeout=60, ttl=600, most=100, forgotten=lambda count: None
        )
        self.broker.start(self, self)
        self.store.start(self)
        self.ingest = Ingest(self.broker, self.store, Routing(["invoice"]), self.metrics, self.wall)

    def wall(self) -> float:
        return START + self.clock.seconds()

    def deliver(self, publication: Publication) -> None:
        if not publication.event.startswith("room:user_"):
            self.delivered.append(publication)

    def wants(self, channel: str) -> bool:
        return True

    def reset(self, channels: frozenset[str] | None) -> None:
        raise AssertionError("the memory broker loses nothing")

    def signalled(self, name: str, data: bytes) -> None:
        raise AssertionError("ingress sends no signals")

    def displaced(self, owner: Owner) -> None:
        raise AssertionError("there is no other node")

    def returned(self, lost: bool) -> None:
        raise AssertionError("the memory store is never away")

    def present(self, user: str, *rooms: str, connection: str = "c1") -> None:
        """Let a user be connected, in these rooms."""
        owner, session = Owner(user, connection, 1), f"session {connection} of {user}"
        since = int(self.wall() * 1000)
        self.store.begin(owner, session, dict.fromkeys(rooms, True), since, Limits(5, 100))
        self.delivered.clear()

    def counted(self, name: str, **labels: str) -> float | None:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(f"realtime_{name}", labels)
