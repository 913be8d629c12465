"""Verbs: what other services can ask for, whatever road they come by.

`VERBS` says of each what it is asked with, what it answers, which scope of an API key it needs, and what it
may refuse with; `Verbs` does it. HTTP, gRPC and clients with a service token only carry them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from heapq import nsmallest
from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from ..api_keys import ApiKey, Scope
from ..broker.interface import IBroker, IStateStore, Presence
from ..broker.receipts import IReceiptStore
from ..errors import (
    ApiForbidden,
    BrokerUnavailable,
    Close,
    InternalError,
    InvalidMessage,
    InvalidPublication,
    InvalidRoom,
    MessageTooLarge,
    NoOwner,
    NoReceipt,
    NotFound,
    PastTime,
    QueueConflict,
    RealtimeError,
    RoomForbidden,
    TooManyBans,
    UnknownChannel,
)
from ..history import fit, present
from ..ids import unique_id
from ..messages import Audience, Publication
from ..moving import Moving
from ..names import valid_room, valid_user
from ..payload import MAX_DEPTH
from ..presence import member_payload
from ..security import Security
from ..trust.interface import Ban, ITrust, Kind, mute_key
from ..user_endings import UserEndings
from . import shapes
from .publish import Accepted as Taken
from .publish import Ingest, Options
from .queue_verbs import QueueVerbs

_log = Logger()


class Verb(msgspec.Struct, frozen=True):
    """One verb.

    :ivar errors: what it may refuse with, beside what all may (`COMMON`).
    :ivar invalid: what a request that is not as expected is refused with.
    """

    name: str
    scope: Scope
    request: type[shapes.Request]
    answer: type[shapes.Answer]
    summary: str
    errors: tuple[type[RealtimeError], ...] = ()
    invalid: type[RealtimeError] = InvalidMessage

    def decode(self, data: bytes) -> Any:
        """Read a request.

        :raises RealtimeError: `invalid`, which names what is wrong.
        """
        try:
            return _DECODERS[self.name].decode(data)
        except msgspec.ValidationError as error:
            # An unknown field is named in the message: as long as the caller made it.
            raise self.invalid(f"the request is not as expected: {str(error)[:200]}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.invalid(f"the request is not JSON: {str(error)[:200]}") from None
        except RecursionError:
            raise self.invalid(f"the request nests deeper than {MAX_DEPTH} levels") from None


#: What every verb may refuse with.
COMMON: Final = (ApiForbidden, InvalidMessage, InternalError, MessageTooLarge, BrokerUnavailable)

_PUBLISHING: Final = (InvalidPublication, NoOwner, NoReceipt, UnknownChannel)

VERBS: Final[Mapping[str, Verb]] = {
    verb.name: verb
    for verb in (
        Verb(
            "publish",
            "publish",
            shapes.Publish,
            shapes.Accepted,
            "Publish to a channel",
            _PUBLISHING,
            InvalidPublication,
        ),
        Verb(
            "broadcast",
            "publish",
            shapes.Broadcast,
            shapes.Accepted,
            "Send an event to an audience that is named",
            (*_PUBLISHING, InvalidRoom),
            InvalidPublication,
        ),
        Verb(
            "batch",
            "publish",
            shapes.Batch,
            shapes.Results,
            "Publish several at once, each taken or refused by itself",
            (),
            InvalidPublication,
        ),
        Verb("receipt", "read", shapes.OfReceipt, shapes.ReceiptTold, "Who got a publication", (NotFound,)),
        Verb("rooms", "read", shapes.RoomsPage, shapes.RoomsTold, "Rooms, and how many users each has"),
        Verb("members", "read", shapes.OfRoom, shapes.Members, "Who is in a room", (InvalidRoom,)),
        Verb(
            "history",
            "moderate",
            shapes.History,
            shapes.Messages,
            "What was said in a room",
            (InvalidRoom,),
        ),
        Verb("presence", "read", shapes.OfUser, shapes.Member, "A user's presence"),
        Verb("count", "read", shapes.Nothing, shapes.Count, "Connections of this node"),
        Verb("info", "read", shapes.Nothing, shapes.Info, "The node that answers"),
        Verb(
            "history_remove",
            "moderate",
            shapes.HistoryRemove,
            shapes.Removed,
            "Take messages out of a room's history",
            (InvalidRoom,),
        ),
        Verb(
            "kick",
            "moderate",
            shapes.Kick,
            shapes.Moved,
            "Take a user out of a room",
            (InvalidRoom, RoomForbidden),
        ),
        Verb(
            "move",
            "moderate",
            shapes.Move,
            shapes.Moved,
            "Take a user out of one room and put them into another",
            (InvalidRoom, RoomForbidden),
        ),
        Verb(
            "disconnect",
            "moderate",
            shapes.Disconnect,
            shapes.Disconnected,
            "End connections of a user for good",
        ),
        Verb(
            "revoke_token",
            "moderate",
            shapes.RevokeToken,
            shapes.Banned,
            "Revoke a token",
            (TooManyBans, PastTime),
        ),
        Verb("restore_token", "moderate", shapes.RestoreToken, shapes.Lifted, "Take a revocation back"),
        Verb(
            "revoke_user",
            "moderate",
            shapes.RevokeUser,
            shapes.Banned,
            "Revoke a user's tokens",
            (TooManyBans, PastTime),
        ),
        Verb("restore_user", "moderate", shapes.OfUser, shapes.Lifted, "Take it back"),
        Verb("block", "moderate", shapes.Block, shapes.Banned, "Block a user", (TooManyBans, PastTime)),
        Verb("unblock", "moderate", shapes.OfUser, shapes.Lifted, "Let a user in again"),
        Verb(
            "mute",
            "moderate",
            shapes.Mute,
            shapes.Banned,
            "Mute a user in a room",
            (InvalidRoom, TooManyBans, PastTime),
        ),
        Verb("unmute", "moderate", shapes.Unmute, shapes.Lifted, "Let a user speak again", (InvalidRoom,)),
        Verb(
            "queue_members",
            "read",
            shapes.QueueMembers,
            shapes.QueueMembersTold,
            "Who waits in a booking queue",
        ),
        Verb(
            "queue_positions",
            "publish",
            shapes.QueuePositions,
            shapes.PositionsTold,
            "Tell users where they stand in a booking queue",
        ),
        Verb(
            "queue_proceed",
            "publish",
            shapes.QueueProceed,
            shapes.Proceeded,
            "Let a user of a booking queue proceed",
            (PastTime, QueueConflict, InvalidPublication),
        ),
        Verb(
            "queue_remove",
            "publish",
            shapes.QueueRemove,
            shapes.Removed,
            "Take a user out of a booking queue",
        ),
    )
}

_DECODERS: Final = {verb.name: msgspec.json.Decoder(verb.request) for verb in VERBS.values()}


class Caller(msgspec.Struct, frozen=True):
    """Who asks: an API key, and from where."""

    key: ApiKey
    address: str


class Census(Protocol):
    """Who is connected to this node. Its length is the number of connections."""

    def __len__(self) -> int: ...

    @property
    def users(self) -> int: ...

    def transports(self) -> Mapping[str, int]: ...


class Verbs:
    """Does what other services ask for.

    :param wall: seconds since the epoch.
    :param max_history: messages of one answer, as it comes.
    :param max_history_bytes: payload bytes of history in one answer.
    :param node: this node's id, and the version of the service.
    """

    def __init__(
        self,
        *,
        ingest: Ingest,
        broker: IBroker,
        store: IStateStore,
        trust: ITrust,
        security: Security,
        connections: Census,
        endings: UserEndings,
        moving: Moving,
        queues: QueueVerbs,
        wall: Callable[[], float],
        max_history: int,
        max_history_bytes: int,
        node: tuple[str, str],
        receipts: IReceiptStore,
    ) -> None:
        self._ingest = ingest
        self._broker = broker
        self._store = store
        self._trust = trust
        self._security = security
        self._connections = connections
        self._endings = endings
        self._moving = moving
        self._wall = wall
        self._max_history = max_history
        self._max_history_bytes = max_history_bytes
        self._node = node
        self._receipts = receipts
        self._handlers: dict[str, Callable[[Any, Caller], Awaitable[shapes.Answer]]] = {
            name: getattr(self, f"_{name}") for name in VERBS.keys() - queues.table.keys()
        }
        self._handlers.update(queues.table)

    @property
    def services(self) -> frozenset[str]:
        """The first parts of all channels that are accepted."""
        return self._ingest.services

    def perform(self, verb: Verb, request: Any, caller: Caller) -> Deferred[Any]:
        """Do what is asked.

        :param request: of the type `Verb.request`.
        :returns: a `Verb.answer`; fails with `RealtimeError`.
        """
        return Deferred.fromCoroutine(self._perform(verb, request, caller))

    async def _perform(self, verb: Verb, request: Any, caller: Caller) -> shapes.Answer:
        caller.key.check(verb.scope)
        return await self._handlers[verb.name](request, caller)

    # -- publishing

    async def publish(self, asked: shapes.Publish, caller: Caller) -> Taken:
        """What the verb ``publish`` does; its answer is `accepted`."""
        caller.key.check(VERBS["publish"].scope)
        caller.key.check_channel(asked.channel)
        options = _options(asked)
        return await self._ingest.take(asked.channel, bytes(asked.data), asked.message_id, options)

    async def _publish(self, asked: shapes.Publish, caller: Caller) -> shapes.Answer:
        return accepted(await self.publish(asked, caller))

    async def _broadcast(self, asked: shapes.Broadcast, caller: Caller) -> shapes.Answer:
        caller.key.check_channel(asked.event)
        whom = asked.audience
        for room in whom.rooms:
            _room(room)
        for user in whom.users:
            _user(user, InvalidPublication)
        audience = Audience(whom.everyone, frozenset(whom.users), frozenset(whom.rooms))
        taken = await self._ingest.broadcast(
            asked.event, bytes(asked.data), audience, asked.message_id, _options(asked)
        )
        return accepted(taken)

    async def _batch(self, asked: shapes.Batch, caller: Caller) -> shapes.Answer:
        started = [Deferred.fromCoroutine(self._one_of(one, caller)) for one in asked.publications]
        return shapes.Results([result for _, result in await DeferredList(started)])

    async def _one_of(self, asked: shapes.Publish, caller: Caller) -> shapes.Result:
        try:
            taken = await self.publish(asked, caller)
        except RealtimeError as error:
            return shapes.Result(error=shapes.Refused(error.code, error.message))
        except Exception:
            _log.failure("one publication of a batch failed")
            failed = InternalError()
            return shapes.Result(error=shapes.Refused(failed.code, failed.message))
        return shapes.Result(accepted=accepted(taken))

    # -- asking

    async def _receipt(self, asked: shapes.OfReceipt, caller: Caller) -> shapes.Answer:
        (found,) = await self._receipts.read([asked.id])
        if found is None:
            raise NotFound("no receipt is kept of such a publication")
        return shapes.receipt_told(found, self._wall())

    async def _rooms(self, asked: shapes.RoomsPage, caller: Caller) -> shapes.Answer:
        after = asked.after or ""
        if asked.after is not None and not valid_room(after):
            raise InvalidMessage("after: expected a room id")
        rooms = await self._store.rooms()
        page = nsmallest(asked.limit + 1, (room for room in rooms if room > after))
        more = page[asked.limit - 1] if len(page) > asked.limit else None
        return shapes.RoomsTold([shapes.RoomTold(room, rooms[room]) for room in page[: asked.limit]], more)

    async def _members(self, asked: shapes.OfRoom, caller: Caller) -> shapes.Answer:
        room = _room(asked.room_id)
        return shapes.Members(room, [_member(presence) for presence in await self._store.members(room)])

    async def _presence(self, asked: shapes.OfUser, caller: Caller) -> shapes.Answer:
        return _member(await self._store.presence(_user(asked.user_id)))

    async def _history(self, asked: shapes.History, caller: Caller) -> shapes.Answer:
        room = _room(asked.room_id)
        limit = min(asked.limit or self._max_history, max(1, self._max_history))
        page = await self._broker.history(room, asked.after, asked.before, limit)
        found = present(page.publications, self._wall())
        shown = fit(found, self._max_history_bytes, newest=asked.after is None)
        return shapes.Messages(room, [msgspec.Raw(entry.payload()) for entry in shown], page.position)

    async def _count(self, asked: shapes.Nothing, caller: Caller) -> shapes.Answer:
        connections = self._connections
        return shapes.Count(len(connections), connections.users, dict(connections.transports()))

    async def _info(self, asked: shapes.Nothing, caller: Caller) -> shapes.Answer:
        connections = self._connections
        return shapes.Info(
            *self._node,
            len(connections),
            connections.users,
            dict(connections.transports()),
            sorted(self.services),
        )

    # -- rooms

    async def _history_remove(self, asked: shapes.HistoryRemove, caller: Caller) -> shapes.Answer:
        room = _room(asked.room_id)
        removed = await self._broker.remove(room, asked.offset)
        if removed:
            now = int(self._wall() * 1000)
            told: dict[str, Any] = {"roomId": room}
            if asked.offset is not None:
                told["offset"] = asked.offset
            data = msgspec.json.encode({**told, "timestamp": now})
            audience = Audience(rooms=frozenset((room,)))
            # Logged, so that who comes back and gets a message learns that it is no more.
            await self._broker.publish(
                Publication("room:message_removed", data, audience, unique_id(now), now)
            )
        return shapes.Removed(removed)

    async def _kick(self, asked: shapes.Kick, caller: Caller) -> shapes.Answer:
        user, room = _user(asked.user_id), _room(asked.room_id)
        connections = await self._moving.kick(user, room, asked.reason)
        self._tell("kicked", caller, user, room)
        return shapes.Moved(connections)

    async def _move(self, asked: shapes.Move, caller: Caller) -> shapes.Answer:
        user, room, to = _user(asked.user_id), _room(asked.room_id), _room(asked.to)
        connections = await self._moving.kick(user, room, asked.reason or "moved", to)
        self._tell("kicked", caller, user, f"{room} to {to}")
        return shapes.Moved(connections)

    # -- users

    async def _disconnect(self, asked: shapes.Disconnect, caller: Caller) -> shapes.Answer:
        user = _user(asked.user_id)
        close = next(close for close in Close if close.number == asked.code)
        if asked.connection_id is None:
            ended = await self._endings.disconnect_user(user, close, asked.reason)
        else:
            ended = await self._endings.disconnect(user, asked.connection_id, close, asked.reason)
        return shapes.Disconnected(ended)

    async def _revoke_token(self, asked: shapes.RevokeToken, caller: Caller) -> shapes.Answer:
        return await self._ban(caller, "token", asked.token_id, asked.until)

    async def _revoke_user(self, asked: shapes.RevokeUser, caller: Caller) -> shapes.Answer:
        before = self._wall() if asked.issued_before is None else asked.issued_before / 1000
        return await self._ban(caller, "issued", _user(asked.user_id), asked.until, before)

    async def _block(self, asked: shapes.Block, caller: Caller) -> shapes.Answer:
        return await self._ban(caller, "block", _user(asked.user_id), asked.until)

    async def _mute(self, asked: shapes.Mute, caller: Caller) -> shapes.Answer:
        key = mute_key(_room(asked.room_id), _user(asked.user_id))
        return await self._ban(caller, "mute", key, asked.until)

    async def _restore_token(self, asked: shapes.RestoreToken, caller: Caller) -> shapes.Answer:
        return await self._lift(caller, "token", asked.token_id)

    async def _restore_user(self, asked: shapes.OfUser, caller: Caller) -> shapes.Answer:
        return await self._lift(caller, "issued", _user(asked.user_id))

    async def _unblock(self, asked: shapes.OfUser, caller: Caller) -> shapes.Answer:
        return await self._lift(caller, "block", _user(asked.user_id))

    async def _unmute(self, asked: shapes.Unmute, caller: Caller) -> shapes.Answer:
        return await self._lift(caller, "mute", mute_key(_room(asked.room_id), _user(asked.user_id)))

    async def _ban(
        self, caller: Caller, kind: Kind, key: str, until: float | None, before: float = 0.0
    ) -> shapes.Answer:
        now = self._wall()
        ends = 0.0 if until is None else until / 1000
        if 0 < ends <= now:
            raise PastTime()
        await self._trust.ban(Ban(kind, key, before, ends, int(now * 1000)))
        self._tell_ban("banned", caller, kind, key)
        return shapes.Banned(
            True,
            int(before * 1000) if kind == "issued" else UNSET,
            UNSET if until is None else int(until),
        )

    async def _lift(self, caller: Caller, kind: Kind, key: str) -> shapes.Answer:
        lifted = await self._trust.lift(kind, key)
        self._tell_ban("lifted", caller, kind, key)
        return shapes.Lifted(lifted)

    def _tell_ban(self, what: str, caller: Caller, kind: Kind, key: str) -> None:
        room, _, user = key.rpartition(" ") if kind == "mute" else ("", "", key)
        reason = f"{kind} {room}".strip() if kind != "token" else f"token {key}"
        self._tell(what, caller, "" if kind == "token" else user, reason)

    def _tell(self, what: str, caller: Caller, user: str, reason: str) -> None:
        self._security.tell(
            what, user=user, address=caller.address, reason=f"{reason}, by {caller.key.name}"
        )


def _options(asked: shapes.Publish | shapes.Broadcast) -> Options:
    exclude = asked.exclude
    if exclude is None and asked.loss is None and asked.ttl is None and not asked.receipt:
        return _NO_OPTIONS
    ttl = None if asked.ttl is None else int(asked.ttl)
    if exclude is None:
        return Options(loss=asked.loss, ttl=ttl, receipt=asked.receipt)
    for user in exclude.users:
        _user(user, InvalidPublication)
    users, connections = frozenset(exclude.users), frozenset(exclude.connections)
    return Options(users, connections, asked.loss, ttl, asked.receipt)


_NO_OPTIONS: Final = Options()


def accepted(taken: Taken) -> shapes.Accepted:
    """What is told of a publication that was taken."""
    audience = taken.audience
    told = shapes.AudienceTold(audience.everyone, sorted(audience.users), sorted(audience.rooms))
    offset = None if taken.position is None else taken.position.offset
    return shapes.Accepted(taken.id, offset, told, taken.repeated)


def _member(presence: Presence) -> shapes.Member:
    told = member_payload(presence)
    metas = [shapes.MetaTold(meta["connectionId"], meta["since"]) for meta in told["metas"]]
    return shapes.Member(told["userId"], told["status"], metas, told.get("text", UNSET))


def _user(user: str, error: type[RealtimeError] = InvalidMessage) -> str:
    if not valid_user(user):
        raise error("a user id is 1 to 128 printable characters, no space and none of : { } * ? [ ]")
    return user


def _room(room: str) -> str:
    if not valid_room(room):
        raise InvalidRoom()
    return room
