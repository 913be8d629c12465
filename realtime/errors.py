"""The error tree: one stable code per class, temporary or final, with a message that is safe to show.

Two families. `RealtimeError` is a refusal: somebody asked for something that is not given, and is
told so in its own protocol (an acknowledgement, ``system:error``, an HTTP answer). `Close` is the
reason why the service ends a connection, and says by its number whether the client should come back.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar


class RealtimeError(Exception):
    """A refusal with a stable code.

    :cvar code: stable, dotted, for programs.
    :cvar temporary: whether the same request may succeed later.
    :cvar status: the HTTP status that says the same.
    :cvar retry: for a temporary one, `retry_after` where it is not known better.
    :param message: for people; names what was wrong and what is accepted. Never carries a token.
    :param retry_after: seconds until a repetition makes sense, where that is known.
    """

    code: ClassVar[str] = "internal.error"
    temporary: ClassVar[bool] = False
    status: ClassVar[int] = 500
    retry: ClassVar[float | None] = None
    default: ClassVar[str] = "the service failed; nothing was done"

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        self.message = message or self.default
        self.retry_after = self.retry if retry_after is None else retry_after
        super().__init__(self.message)

    def refusal(self, event: str | None = None) -> dict[str, Any]:
        """The Refusal that a client sees: ``{code, message, event?, retryAfter?}`` (retryAfter in ms)."""
        told: dict[str, Any] = {"code": self.code, "message": self.message}
        if event is not None:
            told["event"] = event
        if self.retry_after is not None:
            told["retryAfter"] = max(1, round(self.retry_after * 1000))
        return told


class InternalError(RealtimeError):
    """Our own bug, said without details."""


class ProtocolError(RealtimeError):
    """The peer broke its protocol so that what follows can't be understood: the connection is closed."""

    code = "protocol.error"
    status = 400
    default = "the message does not follow the protocol"


class InvalidMessage(RealtimeError):
    code = "message.invalid"
    status = 400
    default = "the message is not valid"


class MessageTooLarge(RealtimeError):
    code = "message.too_large"
    status = 413
    default = "the message is too large"


class UnknownEvent(RealtimeError):
    code = "event.unknown"
    status = 404
    default = "no such event"


class AuthRequired(RealtimeError):
    code = "auth.required"
    status = 401
    default = "log in first: send auth:login with a token"


class InvalidToken(RealtimeError):
    code = "auth.token_invalid"
    status = 401
    default = "the token is not valid"


class ExpiredToken(RealtimeError):
    code = "auth.token_expired"
    status = 401
    default = "the token has expired"


class TokenRevoked(RealtimeError):
    code = "auth.token_revoked"
    status = 401
    default = "the token was revoked: log in again"


class UserBlocked(RealtimeError):
    code = "auth.blocked"
    status = 403
    default = "this user is blocked"


class AuthUnavailable(RealtimeError):
    code = "auth.unavailable"
    temporary = True
    retry = 5.0
    status = 503
    default = "tokens can't be checked now; try again"


class OtherSubject(RealtimeError):
    code = "auth.other_subject"
    status = 403
    default = "the token belongs to another user"


class RefreshUnsupported(RealtimeError):
    code = "auth.refresh_unsupported"
    status = 400
    default = "refresh tokens are not accepted here: send a new access token"


class RefreshReused(RealtimeError):
    code = "auth.refresh_reused"
    status = 401
    default = "the refresh token was used before"


class InvalidRoom(RealtimeError):
    code = "room.invalid_id"
    status = 400
    default = "a room id is parts of A-Z a-z 0-9 _ - joined by colons, at most 128 characters"


class RoomForbidden(RealtimeError):
    code = "room.forbidden"
    status = 403
    default = "you may not do this in this room"


class RoomFull(RealtimeError):
    code = "room.full"
    temporary = True
    retry = 5.0
    status = 409
    default = "the room is full"


class Muted(RealtimeError):
    code = "room.muted"
    status = 403
    default = "you are muted in this room"


class ContentRefused(RealtimeError):
    code = "content.refused"
    status = 400
    default = "the text holds what is not wanted here"


class SpamRefused(RealtimeError):
    code = "content.spam"
    temporary = True
    status = 429
    default = "this looks like spam: wait before you send more"


class NotJoined(RealtimeError):
    code = "room.not_joined"
    status = 409
    default = "join the room first"


class TooManyRooms(RealtimeError):
    code = "room.limit"
    status = 409
    default = "too many rooms"


class RateLimited(RealtimeError):
    code = "rate.limited"
    temporary = True
    retry = 1.0
    status = 429
    default = "too many messages"


class TooManyConnections(RealtimeError):
    code = "connection.limit"
    temporary = True
    retry = 1.0
    status = 503
    default = "too many connections"


class SessionReplaced(RealtimeError):
    code = "session.replaced"
    status = 409
    default = "another connection has taken up this session"


class Kicked(RealtimeError):
    code = "connection.kicked"
    status = 403
    default = "the service has ended this session"


class QueueFull(RealtimeError):
    code = "queue.full"
    temporary = True
    retry = 30.0
    status = 409
    default = "the queue is full"


class TooManyQueues(RealtimeError):
    code = "queue.limit"
    status = 409
    default = "you wait in too many queues"


class UnknownProceed(RealtimeError):
    code = "queue.unknown_proceed"
    status = 404
    default = "there is no such proceed, or it is over"


class QueueConflict(RealtimeError):
    code = "queue.conflict"
    status = 409
    default = "this proceedId was used for another user"


class WorkerReplaced(RealtimeError):
    code = "queue.replaced"
    status = 409
    default = "a later stream of this worker has taken its place"


class WorkersElsewhere(RealtimeError):
    code = "queue.streamed"
    status = 409
    default = "changes of queues go to the Redis Stream realtime:queue here"


class UnknownChannel(RealtimeError):
    code = "publish.channel_unknown"
    status = 400
    default = "no such channel"


class NoOwner(RealtimeError):
    code = "publish.no_owner"
    status = 400
    default = "the payload names nobody to deliver to"


class InvalidPublication(RealtimeError):
    code = "publish.invalid"
    status = 400
    default = "the publication is not valid"


class NoReceipt(RealtimeError):
    code = "publish.no_receipt"
    status = 409
    default = "what may be dropped, and is not kept for recovery, has no receipt"


class Unauthorized(RealtimeError):
    code = "api.unauthorized"
    status = 401
    default = "send the API key: Authorization: Bearer KEY"


class ApiForbidden(RealtimeError):
    code = "api.forbidden"
    status = 403
    default = "this key is not for that"


class NotFound(RealtimeError):
    code = "api.not_found"
    status = 404
    default = "no such path"


class MethodNotAllowed(RealtimeError):
    code = "api.method_not_allowed"
    status = 405
    default = "this path does not take that method"


class TooManyBans(RealtimeError):
    code = "trust.limit"
    status = 409
    default = "too many revocations, blocks and mutes stand: lift some"


class TooManyTraces(RealtimeError):
    code = "trace.limit"
    status = 409
    default = "so many users are traced already: end some"


class PastTime(RealtimeError):
    code = "trust.past"
    status = 409
    default = "until is not a time to come"


class BrokerUnavailable(RealtimeError):
    code = "broker.unavailable"
    temporary = True
    retry = 1.0
    status = 503
    default = "the message bus is away; try again"

    def __init__(self, message: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(message, retry_after=retry_after)


class Close(enum.Enum):
    """Why the service ends a connection. WebSocket codes 4000-4499: come back; 4500-4999: don't."""

    DRAIN = 4000, "drain"
    CONNECTION_LIMIT = 4002, "connection.limit"
    SLOW_CONSUMER = 4003, "slow_consumer"
    BUS_LOSS = 4004, "bus_loss"
    TOKEN_EXPIRED = 4005, "token_expired"
    REPLACED = 4006, "replaced"
    CONNECT_TIMEOUT = 4007, "connect_timeout"
    PING_TIMEOUT = 4008, "ping_timeout"
    EVICTED = 4009, "evicted"
    PROTOCOL_ERROR = 4010, "protocol.error"
    TOO_LARGE = 4011, "message.too_large"
    INTERNAL = 4012, "internal.error"
    AUTH_UNAVAILABLE = 4013, "auth.unavailable"
    RATE_LIMITED = 4014, "rate.limited"
    KICKED = 4501, "kicked"
    LOGOUT = 4502, "logout"
    REFUSED = 4503, "refused"
    REVOKED = 4504, "revoked"
    SUPERSEDED = 4505, "superseded"

    @property
    def number(self) -> int:
        """The WebSocket close code."""
        return self.value[0]

    @property
    def reason(self) -> str:
        """A stable word for logs, metrics and the WebSocket close reason."""
        return self.value[1]

    @property
    def comes_back(self) -> bool:
        """Whether the client is meant to reconnect."""
        return self.number < 4500
