"""Ingest: takes what other services publish, whatever way it came, and hands it to the broker."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred

from ..broker.interface import IBroker, IStateStore
from ..errors import InternalError, InvalidPublication, RealtimeError
from ..ids import unique_id
from ..messages import Audience, Position, Publication
from ..metrics import Metrics
from ..routing import Route, Routing

#: The most characters of a ``messageId``.
MAX_MESSAGE_ID: Final = 128

#: A publication, and its idempotency key.
Prepared = tuple[Publication, str | None]


class Accepted(msgspec.Struct, frozen=True):
    """What became of a publication.

    :ivar position: None for what is not logged.
    :ivar repeated: it was taken before, under the same message id; nothing was delivered now.
    """

    id: str
    audience: Audience
    position: Position | None
    repeated: bool


class Ingest:
    """The one way by which publications of other services enter.

    :param routing: the table of channels.
    :param wall: seconds since the epoch.
    """

    def __init__(
        self,
        broker: IBroker,
        store: IStateStore,
        routing: Routing,
        metrics: Metrics,
        wall: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._store = store
        self._routing = routing
        self._metrics = metrics
        self._wall = wall

    def publish(self, channel: str, data: bytes, message_id: str | None = None) -> Deferred[Accepted]:
        """Publish a raw JSON object to a channel (DESIGN.md section 6).

        :param message_id: a second publication to the channel under the same one, within
            RECOVERY_WINDOW, is not delivered and answers the first one's id and position.
        :returns: fires when the broker has taken it; fails with `UnknownChannel`, `NoOwner`,
            `InvalidPublication`, `MessageTooLarge` or `BrokerUnavailable`.
        """
        return Deferred.fromCoroutine(self._counted(channel, self._publish(channel, data, message_id)))

    async def _counted(self, channel: str, work: Coroutine[Any, Any, Accepted]) -> Accepted:
        outcome = InternalError.code
        try:
            accepted = await work
            outcome = "repeated" if accepted.repeated else "accepted"
            return accepted
        except RealtimeError as error:
            outcome = error.code
            raise
        finally:
            self.count(channel.partition(":")[0], outcome)

    async def _publish(self, channel: str, data: bytes, message_id: str | None) -> Accepted:
        prepared = self.prepare(channel, data, message_id)
        publication, key = await prepared if isinstance(prepared, Deferred) else prepared
        published = await self._broker.publish(publication, key)
        return Accepted(published.id, publication.audience, published.position, published.repeated)

    def count(self, kind: str, outcome: str) -> None:
        """Something was published to a channel whose first part is `kind`; see `Metrics.published`."""
        self._metrics.published(kind, outcome)

    @property
    def services(self) -> frozenset[str]:
        """The first parts of all channels that are accepted."""
        return self._routing.services

    def prepare(
        self, channel: str, data: bytes, message_id: str | None = None, *, inside: bool = False
    ) -> Prepared | Deferred[Prepared]:
        """What is to be published, and its idempotency key: one rule for all the ways in.

        :param message_id: what stood beside the payload.
        :param inside: whether it stands in the payload, for there is no room beside it.
        :returns: a Deferred only where the store has to be asked.
        """
        now = int(self._wall() * 1000)
        key = None if message_id is None else _key(channel, message_id)
        route = self._routing.route(channel, data, now, inside=inside)
        if route.message_id is not None:
            key = _key(channel, route.message_id)
        if route.sharing is None:
            assert route.audience is not None
            return _publication(route, route.audience, now), key
        rooms = self._store.rooms_of(route.sharing)
        return rooms.addCallback(lambda found: (_publication(route, Audience(rooms=found), now), key))


def _publication(route: Route, audience: Audience, now: int) -> Publication:
    return Publication(
        event=route.event,
        data=route.data,
        audience=audience,
        id=unique_id(now),
        time=now,
        logged=route.logged,
        history=route.history,
        splice=route.splice,
    )


def _key(channel: str, message_id: str) -> str:
    """The idempotency key: scoped by the channel, which holds no NUL."""
    if not (0 < len(message_id) <= MAX_MESSAGE_ID and message_id.isprintable()):
        raise InvalidPublication(
            f"messageId: expected a text of 1 to {MAX_MESSAGE_ID} printable characters"
        )
    return f"{channel}\0{message_id}"
