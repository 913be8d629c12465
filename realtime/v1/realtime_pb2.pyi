from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Exclude(_message.Message):
    __slots__ = ("users", "connections")
    USERS_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedScalarFieldContainer[str]
    connections: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, users: _Optional[_Iterable[str]] = ..., connections: _Optional[_Iterable[str]] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("channel", "data", "message_id", "exclude", "loss", "ttl", "receipt")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    channel: str
    data: bytes
    message_id: str
    exclude: Exclude
    loss: str
    ttl: int
    receipt: bool
    def __init__(self, channel: _Optional[str] = ..., data: _Optional[bytes] = ..., message_id: _Optional[str] = ..., exclude: _Optional[_Union[Exclude, _Mapping]] = ..., loss: _Optional[str] = ..., ttl: _Optional[int] = ..., receipt: _Optional[bool] = ...) -> None: ...

class Audience(_message.Message):
    __slots__ = ("everyone", "users", "rooms")
    EVERYONE_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    ROOMS_FIELD_NUMBER: _ClassVar[int]
    everyone: bool
    users: _containers.RepeatedScalarFieldContainer[str]
    rooms: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, everyone: _Optional[bool] = ..., users: _Optional[_Iterable[str]] = ..., rooms: _Optional[_Iterable[str]] = ...) -> None: ...

class BroadcastRequest(_message.Message):
    __slots__ = ("event", "data", "audience", "message_id", "exclude", "loss", "ttl", "receipt")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    event: str
    data: bytes
    audience: Audience
    message_id: str
    exclude: Exclude
    loss: str
    ttl: int
    receipt: bool
    def __init__(self, event: _Optional[str] = ..., data: _Optional[bytes] = ..., audience: _Optional[_Union[Audience, _Mapping]] = ..., message_id: _Optional[str] = ..., exclude: _Optional[_Union[Exclude, _Mapping]] = ..., loss: _Optional[str] = ..., ttl: _Optional[int] = ..., receipt: _Optional[bool] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("id", "offset", "audience", "repeated")
    ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    id: str
    offset: int
    audience: Audience
    repeated: bool
    def __init__(self, id: _Optional[str] = ..., offset: _Optional[int] = ..., audience: _Optional[_Union[Audience, _Mapping]] = ..., repeated: _Optional[bool] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("publications",)
    PUBLICATIONS_FIELD_NUMBER: _ClassVar[int]
    publications: _containers.RepeatedCompositeFieldContainer[PublishRequest]
    def __init__(self, publications: _Optional[_Iterable[_Union[PublishRequest, _Mapping]]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("accepted", "error")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    accepted: PublishResponse
    error: Error
    def __init__(self, accepted: _Optional[_Union[PublishResponse, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class StreamError(_message.Message):
    __slots__ = ("index", "code", "message")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    index: int
    code: str
    message: str
    def __init__(self, index: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class PublishStreamResponse(_message.Message):
    __slots__ = ("accepted", "repeated", "refused", "errors")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    repeated: int
    refused: int
    errors: _containers.RepeatedCompositeFieldContainer[StreamError]
    def __init__(self, accepted: _Optional[int] = ..., repeated: _Optional[int] = ..., refused: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[StreamError, _Mapping]]] = ...) -> None: ...

class ReceiptRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ReceiptCounts(_message.Message):
    __slots__ = ("targeted", "written", "acknowledged", "expired")
    TARGETED_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    targeted: int
    written: int
    acknowledged: int
    expired: int
    def __init__(self, targeted: _Optional[int] = ..., written: _Optional[int] = ..., acknowledged: _Optional[int] = ..., expired: _Optional[int] = ...) -> None: ...

class ReceiptStanding(_message.Message):
    __slots__ = ("connection_id", "user_id", "state")
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    connection_id: str
    user_id: str
    state: str
    def __init__(self, connection_id: _Optional[str] = ..., user_id: _Optional[str] = ..., state: _Optional[str] = ...) -> None: ...

class DeliveryReceipt(_message.Message):
    __slots__ = ("id", "timestamp", "expires_at", "counts", "connections")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    id: str
    timestamp: int
    expires_at: int
    counts: ReceiptCounts
    connections: _containers.RepeatedCompositeFieldContainer[ReceiptStanding]
    def __init__(self, id: _Optional[str] = ..., timestamp: _Optional[int] = ..., expires_at: _Optional[int] = ..., counts: _Optional[_Union[ReceiptCounts, _Mapping]] = ..., connections: _Optional[_Iterable[_Union[ReceiptStanding, _Mapping]]] = ...) -> None: ...

class RoomsRequest(_message.Message):
    __slots__ = ("after", "limit")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    after: str
    limit: int
    def __init__(self, after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class Room(_message.Message):
    __slots__ = ("room_id", "users")
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    users: int
    def __init__(self, room_id: _Optional[str] = ..., users: _Optional[int] = ...) -> None: ...

class RoomsResponse(_message.Message):
    __slots__ = ("rooms", "next")
    ROOMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    rooms: _containers.RepeatedCompositeFieldContainer[Room]
    next: str
    def __init__(self, rooms: _Optional[_Iterable[_Union[Room, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class MembersRequest(_message.Message):
    __slots__ = ("room_id",)
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    def __init__(self, room_id: _Optional[str] = ...) -> None: ...

class Meta(_message.Message):
    __slots__ = ("connection_id", "since")
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    connection_id: str
    since: int
    def __init__(self, connection_id: _Optional[str] = ..., since: _Optional[int] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("user_id", "status", "text", "metas")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    METAS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    status: str
    text: str
    metas: _containers.RepeatedCompositeFieldContainer[Meta]
    def __init__(self, user_id: _Optional[str] = ..., status: _Optional[str] = ..., text: _Optional[str] = ..., metas: _Optional[_Iterable[_Union[Meta, _Mapping]]] = ...) -> None: ...

class MembersResponse(_message.Message):
    __slots__ = ("room_id", "members")
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, room_id: _Optional[str] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("room_id", "after", "before", "limit")
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    after: int
    before: int
    limit: int
    def __init__(self, room_id: _Optional[str] = ..., after: _Optional[int] = ..., before: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("offset", "epoch")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    offset: int
    epoch: str
    def __init__(self, offset: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("room_id", "messages", "position")
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    messages: _containers.RepeatedScalarFieldContainer[bytes]
    position: Position
    def __init__(self, room_id: _Optional[str] = ..., messages: _Optional[_Iterable[bytes]] = ..., position: _Optional[_Union[Position, _Mapping]] = ...) -> None: ...

class UserRequest(_message.Message):
    __slots__ = ("user_id",)
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    def __init__(self, user_id: _Optional[str] = ...) -> None: ...

class CountRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("connections", "users", "transports")
    class TransportsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    TRANSPORTS_FIELD_NUMBER: _ClassVar[int]
    connections: int
    users: int
    transports: _containers.ScalarMap[str, int]
    def __init__(self, connections: _Optional[int] = ..., users: _Optional[int] = ..., transports: _Optional[_Mapping[str, int]] = ...) -> None: ...

class InfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InfoResponse(_message.Message):
    __slots__ = ("node", "version", "connections", "users", "transports", "channels")
    class TransportsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    TRANSPORTS_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    node: str
    version: str
    connections: int
    users: int
    transports: _containers.ScalarMap[str, int]
    channels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[str] = ..., version: _Optional[str] = ..., connections: _Optional[int] = ..., users: _Optional[int] = ..., transports: _Optional[_Mapping[str, int]] = ..., channels: _Optional[_Iterable[str]] = ...) -> None: ...

class HistoryRemoveRequest(_message.Message):
    __slots__ = ("room_id", "offset")
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    offset: int
    def __init__(self, room_id: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class HistoryRemoveResponse(_message.Message):
    __slots__ = ("removed",)
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: int
    def __init__(self, removed: _Optional[int] = ...) -> None: ...

class KickRequest(_message.Message):
    __slots__ = ("room_id", "user_id", "reason")
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    user_id: str
    reason: str
    def __init__(self, room_id: _Optional[str] = ..., user_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class MoveRequest(_message.Message):
    __slots__ = ("room_id", "user_id", "to", "reason")
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    user_id: str
    to: str
    reason: str
    def __init__(self, room_id: _Optional[str] = ..., user_id: _Optional[str] = ..., to: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class MoveResponse(_message.Message):
    __slots__ = ("connections",)
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    connections: int
    def __init__(self, connections: _Optional[int] = ...) -> None: ...

class DisconnectRequest(_message.Message):
    __slots__ = ("user_id", "connection_id", "code", "reason")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    connection_id: str
    code: int
    reason: str
    def __init__(self, user_id: _Optional[str] = ..., connection_id: _Optional[str] = ..., code: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class DisconnectResponse(_message.Message):
    __slots__ = ("disconnected",)
    DISCONNECTED_FIELD_NUMBER: _ClassVar[int]
    disconnected: int
    def __init__(self, disconnected: _Optional[int] = ...) -> None: ...

class RevokeTokenRequest(_message.Message):
    __slots__ = ("token_id", "until")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    token_id: str
    until: int
    def __init__(self, token_id: _Optional[str] = ..., until: _Optional[int] = ...) -> None: ...

class RestoreTokenRequest(_message.Message):
    __slots__ = ("token_id",)
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    token_id: str
    def __init__(self, token_id: _Optional[str] = ...) -> None: ...

class RevokeUserRequest(_message.Message):
    __slots__ = ("user_id", "until", "issued_before")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    ISSUED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    until: int
    issued_before: int
    def __init__(self, user_id: _Optional[str] = ..., until: _Optional[int] = ..., issued_before: _Optional[int] = ...) -> None: ...

class BlockRequest(_message.Message):
    __slots__ = ("user_id", "until")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    until: int
    def __init__(self, user_id: _Optional[str] = ..., until: _Optional[int] = ...) -> None: ...

class MuteRequest(_message.Message):
    __slots__ = ("room_id", "user_id", "until")
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    user_id: str
    until: int
    def __init__(self, room_id: _Optional[str] = ..., user_id: _Optional[str] = ..., until: _Optional[int] = ...) -> None: ...

class UnmuteRequest(_message.Message):
    __slots__ = ("room_id", "user_id")
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    user_id: str
    def __init__(self, room_id: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class BanResponse(_message.Message):
    __slots__ = ("banned", "issued_before", "until")
    BANNED_FIELD_NUMBER: _ClassVar[int]
    ISSUED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    banned: bool
    issued_before: int
    until: int
    def __init__(self, banned: _Optional[bool] = ..., issued_before: _Optional[int] = ..., until: _Optional[int] = ...) -> None: ...

class LiftResponse(_message.Message):
    __slots__ = ("lifted",)
    LIFTED_FIELD_NUMBER: _ClassVar[int]
    lifted: bool
    def __init__(self, lifted: _Optional[bool] = ...) -> None: ...

class QueueOpen(_message.Message):
    __slots__ = ("worker", "replay")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    worker: str
    replay: bool
    def __init__(self, worker: _Optional[str] = ..., replay: _Optional[bool] = ...) -> None: ...

class QueueAcknowledge(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class QueueRequest(_message.Message):
    __slots__ = ("ref", "open", "acknowledge", "positions", "proceed", "remove")
    REF_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    PROCEED_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    ref: int
    open: QueueOpen
    acknowledge: QueueAcknowledge
    positions: QueuePositionsRequest
    proceed: QueueProceedRequest
    remove: QueueRemoveRequest
    def __init__(self, ref: _Optional[int] = ..., open: _Optional[_Union[QueueOpen, _Mapping]] = ..., acknowledge: _Optional[_Union[QueueAcknowledge, _Mapping]] = ..., positions: _Optional[_Union[QueuePositionsRequest, _Mapping]] = ..., proceed: _Optional[_Union[QueueProceedRequest, _Mapping]] = ..., remove: _Optional[_Union[QueueRemoveRequest, _Mapping]] = ...) -> None: ...

class QueueChange(_message.Message):
    __slots__ = ("id", "kind", "event_id", "user_id", "time", "connection_id", "position", "reason", "proceed_id", "state")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROCEED_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    id: int
    kind: str
    event_id: str
    user_id: str
    time: int
    connection_id: str
    position: int
    reason: str
    proceed_id: str
    state: str
    def __init__(self, id: _Optional[int] = ..., kind: _Optional[str] = ..., event_id: _Optional[str] = ..., user_id: _Optional[str] = ..., time: _Optional[int] = ..., connection_id: _Optional[str] = ..., position: _Optional[int] = ..., reason: _Optional[str] = ..., proceed_id: _Optional[str] = ..., state: _Optional[str] = ...) -> None: ...

class QueueResponse(_message.Message):
    __slots__ = ("ref", "change", "positions", "proceed", "remove", "error")
    REF_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    PROCEED_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ref: int
    change: QueueChange
    positions: QueuePositionsResponse
    proceed: QueueProceedResponse
    remove: QueueRemoveResponse
    error: Error
    def __init__(self, ref: _Optional[int] = ..., change: _Optional[_Union[QueueChange, _Mapping]] = ..., positions: _Optional[_Union[QueuePositionsResponse, _Mapping]] = ..., proceed: _Optional[_Union[QueueProceedResponse, _Mapping]] = ..., remove: _Optional[_Union[QueueRemoveResponse, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class QueueMembersRequest(_message.Message):
    __slots__ = ("event_id", "after", "limit")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    after: int
    limit: int
    def __init__(self, event_id: _Optional[str] = ..., after: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class QueueMember(_message.Message):
    __slots__ = ("user_id", "id", "since", "position")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    id: int
    since: int
    position: int
    def __init__(self, user_id: _Optional[str] = ..., id: _Optional[int] = ..., since: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class QueueMembersResponse(_message.Message):
    __slots__ = ("event_id", "waiting", "members", "next")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    waiting: int
    members: _containers.RepeatedCompositeFieldContainer[QueueMember]
    next: int
    def __init__(self, event_id: _Optional[str] = ..., waiting: _Optional[int] = ..., members: _Optional[_Iterable[_Union[QueueMember, _Mapping]]] = ..., next: _Optional[int] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("user_id", "position", "total", "estimated_wait")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_WAIT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    position: int
    total: int
    estimated_wait: int
    def __init__(self, user_id: _Optional[str] = ..., position: _Optional[int] = ..., total: _Optional[int] = ..., estimated_wait: _Optional[int] = ...) -> None: ...

class QueuePositionsRequest(_message.Message):
    __slots__ = ("event_id", "positions")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    positions: _containers.RepeatedCompositeFieldContainer[Standing]
    def __init__(self, event_id: _Optional[str] = ..., positions: _Optional[_Iterable[_Union[Standing, _Mapping]]] = ...) -> None: ...

class QueuePositionsResponse(_message.Message):
    __slots__ = ("told", "not_waiting")
    TOLD_FIELD_NUMBER: _ClassVar[int]
    NOT_WAITING_FIELD_NUMBER: _ClassVar[int]
    told: int
    not_waiting: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, told: _Optional[int] = ..., not_waiting: _Optional[_Iterable[str]] = ...) -> None: ...

class QueueProceedRequest(_message.Message):
    __slots__ = ("event_id", "user_id", "token", "expires_at", "proceed_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    PROCEED_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    user_id: str
    token: str
    expires_at: int
    proceed_id: str
    def __init__(self, event_id: _Optional[str] = ..., user_id: _Optional[str] = ..., token: _Optional[str] = ..., expires_at: _Optional[int] = ..., proceed_id: _Optional[str] = ...) -> None: ...

class QueueProceedResponse(_message.Message):
    __slots__ = ("proceed_id", "state", "repeated")
    PROCEED_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    proceed_id: str
    state: str
    repeated: bool
    def __init__(self, proceed_id: _Optional[str] = ..., state: _Optional[str] = ..., repeated: _Optional[bool] = ...) -> None: ...

class QueueRemoveRequest(_message.Message):
    __slots__ = ("event_id", "user_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    user_id: str
    def __init__(self, event_id: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class QueueRemoveResponse(_message.Message):
    __slots__ = ("removed",)
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: int
    def __init__(self, removed: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("user_ids", "kinds", "receipt_ids")
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_IDS_FIELD_NUMBER: _ClassVar[int]
    user_ids: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[str]
    receipt_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, user_ids: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[str]] = ..., receipt_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class PresenceChange(_message.Message):
    __slots__ = ("event", "user_id", "status", "text", "timestamp")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    event: str
    user_id: str
    status: str
    text: str
    timestamp: int
    def __init__(self, event: _Optional[str] = ..., user_id: _Optional[str] = ..., status: _Optional[str] = ..., text: _Optional[str] = ..., timestamp: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("presence", "queue", "receipt")
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    presence: PresenceChange
    queue: QueueChange
    receipt: DeliveryReceipt
    def __init__(self, presence: _Optional[_Union[PresenceChange, _Mapping]] = ..., queue: _Optional[_Union[QueueChange, _Mapping]] = ..., receipt: _Optional[_Union[DeliveryReceipt, _Mapping]] = ...) -> None: ...
