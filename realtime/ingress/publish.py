"""Ingest: takes what other services publish, whatever way it came, and hands it to the broker."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred

from ..broker.interface import IBroker, IStateStore
from ..errors import InternalError, InvalidPublication, NoReceipt, RealtimeError
from ..events import Loss
from ..ids import unique_id
from ..messages import Audience, Position, Publication, Published
from ..metrics import Metrics
from ..routing import Route, Routing
from .shapes import MAX_MESSAGE_ID, LossClass

#: A publication, and its idempotency key.
Prepared = tuple[Publication, str | None]


class Options(msgspec.Struct, frozen=True):
    """How a publication differs from what its channel says.

    :ivar loss: its loss class; None for that of its event. What may be dropped is not logged.
    :ivar ttl: milliseconds after which nobody gets it; None for never.
    :ivar receipt: whether it is to be known who got it.
    """

    except_users: frozenset[str] = frozenset()
    except_connections: frozenset[str] = frozenset()
    loss: LossClass | None = None
    ttl: int | None = None
    receipt: bool = False


_NO_OPTIONS: Final = Options()
_RECEIPT: Final = Options(receipt=True)


class Accepted(msgspec.Struct, frozen=True):
    """What became of a publication.

    :ivar published: what the broker says of it.
    """

    audience: Audience
    published: Published

    @property
    def id(self) -> str:
        """The publication's id."""
        return self.published.id

    @property
    def position(self) -> Position | None:
        """Its place in its channel's log; None for what is not logged."""
        return self.published.position

    @property
    def repeated(self) -> bool:
        """Whether it was taken before, under the same message id; nothing was delivered now."""
        return self.published.repeated


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

    def publish(
        self, channel: str, data: bytes, message_id: str | None = None, options: Options = _NO_OPTIONS
    ) -> Deferred[Accepted]:
        """Publish a raw JSON object to a channel (DESIGN.md section 6).

        :param message_id: a second publication to the channel under the same one, within
            RECOVERY_WINDOW, is not delivered and answers the first one's id and position.
        :returns: fires when the broker has taken it; fails with `UnknownChannel`, `NoOwner`,
            `InvalidPublication`, `MessageTooLarge` or `BrokerUnavailable`.
        """
        return Deferred.fromCoroutine(self.take(channel, data, message_id, options))

    async def take(
        self, channel: str, data: bytes, message_id: str | None = None, options: Options = _NO_OPTIONS
    ) -> Accepted:
        """See `publish`."""
        return await self._counted(channel, self._publish(channel, data, message_id, options))

    def broadcast(
        self,
        event: str,
        data: bytes,
        audience: Audience,
        message_id: str | None = None,
        options: Options = _NO_OPTIONS,
    ) -> Deferred[Accepted]:
        """Publish a raw JSON object as an event to an audience that is named.

        :param message_id: as that of `publish`; its scope is the event.
        :returns: as `publish`.
        """
        work = self._broadcast(event, data, audience, message_id, options)
        return Deferred.fromCoroutine(self._counted(event, work))

    async def _broadcast(
        self, event: str, data: bytes, audience: Audience, message_id: str | None, options: Options
    ) -> Accepted:
        now = int(self._wall() * 1000)
        # No channel holds a space.
        key = None if message_id is None else _key(f"broadcast {event}", message_id)
        route = self._routing.broadcast(event, data, audience, now)
        return await self._enter(_publication(route, audience, now), key, options)

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

    async def _publish(
        self, channel: str, data: bytes, message_id: str | None, options: Options
    ) -> Accepted:
        prepared = self.prepare(channel, data, message_id)
        publication, key = await prepared if isinstance(prepared, Deferred) else prepared
        return await self._enter(publication, key, options)

    async def _enter(self, publication: Publication, key: str | None, options: Options) -> Accepted:
        if options is not _NO_OPTIONS:
            publication = _with(publication, options)
        published = await self._broker.publish(publication, key)
        return Accepted(publication.audience, published)

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


def _with(publication: Publication, options: Options) -> Publication:
    loss = options.loss
    logged = publication.logged if loss is None else loss != Loss.DROP.value
    if options.receipt and not logged:
        raise NoReceipt()
    audience = msgspec.structs.replace(
        publication.audience,
        except_users=options.except_users,
        except_connections=options.except_connections,
    )
    return msgspec.structs.replace(
        publication,
        audience=audience,
        logged=logged,
        # What is not for all is not in the history that all see.
        history=publication.history
        and logged
        and not (audience.except_users or audience.except_connections),
        loss=loss or "",
        expires=0 if options.ttl is None else publication.time + options.ttl,
        receipt=options.receipt,
    )


def receipted(prepared: Prepared, name: str) -> Prepared:
    """The same with a receipt, and this id.

    :raises NoReceipt: it is not kept for recovery.
    """
    publication, key = prepared
    return msgspec.structs.replace(_with(publication, _RECEIPT), id=name), key


def _key(channel: str, message_id: str) -> str:
    """The idempotency key: scoped by the channel, which holds no NUL."""
    if not (0 < len(message_id) <= MAX_MESSAGE_ID and message_id.isprintable()):
        raise InvalidPublication(
            f"messageId: expected a text of 1 to {MAX_MESSAGE_ID} printable characters"
        )
    return f"{channel}\0{message_id}"
