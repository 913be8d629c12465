"""Ingest: takes what other services publish, whatever way it came, and hands it to the broker."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
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

    :param services: services beside the built-in ones (INGEST_SERVICES).
    :param wall: seconds since the epoch.
    """

    def __init__(
        self,
        broker: IBroker,
        store: IStateStore,
        services: Iterable[str],
        metrics: Metrics,
        wall: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._store = store
        self._routing = Routing(services)
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
            self._metrics.published(channel.partition(":")[0], outcome)

    async def _publish(self, channel: str, data: bytes, message_id: str | None) -> Accepted:
        now = int(self._wall() * 1000)
        key = None if message_id is None else _key(channel, message_id)
        route = self._routing.route(channel, data, now)
        publication = Publication(
            event=route.event,
            data=route.data,
            audience=await self._audience(route),
            id=unique_id(now),
            time=now,
            logged=route.logged,
            history=route.history,
            splice=route.splice,
        )
        published = await self._broker.publish(publication, key)
        return Accepted(published.id, publication.audience, published.position, published.repeated)

    async def _audience(self, route: Route) -> Audience:
        if route.sharing is not None:
            return Audience(rooms=await self._store.rooms_of(route.sharing))
        assert route.audience is not None
        return route.audience


def _key(channel: str, message_id: str) -> str:
    """The idempotency key: scoped by the channel, which holds no NUL."""
    if not (0 < len(message_id) <= MAX_MESSAGE_ID and message_id.isprintable()):
        raise InvalidPublication(
            f"messageId: expected a text of 1 to {MAX_MESSAGE_ID} printable characters"
        )
    return f"{channel}\0{message_id}"
