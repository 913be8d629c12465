"""A request of each verb, for tests of all roads."""

from __future__ import annotations

from typing import Any

PUBLICATION: dict[str, Any] = {"channel": "system:news", "data": {"a": 1}}

#: Each is done, on a node where nobody is; or refused as in `NOT_DONE`.
REQUESTS: dict[str, dict[str, Any]] = {
    "publish": PUBLICATION,
    "broadcast": {"event": "system:news", "data": {}, "audience": {"everyone": True}},
    "batch": {"publications": [PUBLICATION]},
    "receipt": {"id": "none"},
    "rooms": {},
    "members": {"roomId": "lobby"},
    "history": {"roomId": "lobby"},
    "presence": {"userId": "alice"},
    "count": {},
    "info": {},
    "history_remove": {"roomId": "lobby"},
    "kick": {"roomId": "lobby", "userId": "alice"},
    "move": {"roomId": "lobby", "userId": "alice", "to": "hall"},
    "disconnect": {"userId": "alice"},
    "revoke_token": {"tokenId": "t1"},
    "restore_token": {"tokenId": "t1"},
    "revoke_user": {"userId": "alice"},
    "restore_user": {"userId": "alice"},
    "block": {"userId": "alice"},
    "unblock": {"userId": "alice"},
    "mute": {"userId": "alice", "roomId": "lobby"},
    "unmute": {"userId": "alice", "roomId": "lobby"},
    "queue_members": {"eventId": "7"},
    "queue_positions": {"eventId": "7", "positions": [{"userId": "alice", "position": 1}]},
    "queue_proceed": {"eventId": "7", "userId": "alice", "token": "t", "expiresAt": 9 * 10**12},
    "queue_remove": {"eventId": "7", "userId": "alice"},
}

#: The codes of those of them that can't be done there.
NOT_DONE = {"receipt": "api.not_found"}

#: Requests that are refused: the verb, what differs from the one above, and the code.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("publish", {"channel": "booking:created"}, "publish.no_owner"),
    ("publish", {"channel": "warehouse:moved"}, "publish.channel_unknown"),
    ("publish", {"messageId": ""}, "publish.invalid"),
    ("publish", {"data": {"a": "x" * 262_144}}, "message.too_large"),
    ("publish", {"loss": "perhaps"}, "publish.invalid"),
    ("publish", {"ttl": 0}, "publish.invalid"),
    ("broadcast", {"audience": {"everyone": False}}, "publish.no_owner"),
    ("broadcast", {"audience": {"rooms": ["a b"]}}, "room.invalid_id"),
    ("broadcast", {"event": "booking:created"}, "publish.no_owner"),
    ("publish", {"loss": "drop", "receipt": True}, "publish.no_receipt"),
    ("publish", {"channel": "user:online", "data": {"userId": "a"}, "receipt": True}, "publish.no_receipt"),
    ("broadcast", {"loss": "drop", "receipt": True}, "publish.no_receipt"),
    ("batch", {"publications": []}, "publish.invalid"),
    ("receipt", {"id": "x" * 129}, "message.invalid"),
    ("rooms", {"after": "a b"}, "message.invalid"),
    ("rooms", {"limit": 0}, "message.invalid"),
    ("members", {"roomId": "a b"}, "room.invalid_id"),
    ("history", {"roomId": "a b"}, "room.invalid_id"),
    ("history", {"limit": 1001}, "message.invalid"),
    ("presence", {"userId": "a b"}, "message.invalid"),
    ("history_remove", {"offset": 0}, "message.invalid"),
    ("kick", {"roomId": "user:alice"}, "room.forbidden"),
    ("kick", {"userId": "a b"}, "message.invalid"),
    ("move", {"to": "role:x"}, "room.forbidden"),
    ("move", {"to": "a b"}, "room.invalid_id"),
    ("disconnect", {"code": 4000}, "message.invalid"),
    ("revoke_token", {"until": 1}, "trust.past"),
    ("revoke_token", {"tokenId": "x" * 129}, "message.invalid"),
    ("restore_token", {"tokenId": "x" * 129}, "message.invalid"),
    ("revoke_user", {"issuedBefore": 0}, "message.invalid"),
    ("restore_user", {"userId": "a b"}, "message.invalid"),
    ("block", {"until": 1}, "trust.past"),
    ("unblock", {"userId": "a b"}, "message.invalid"),
    ("mute", {"roomId": "a b"}, "room.invalid_id"),
    ("unmute", {"roomId": "a b"}, "room.invalid_id"),
    ("queue_members", {"eventId": "a b"}, "message.invalid"),
    ("queue_members", {"limit": 0}, "message.invalid"),
    ("queue_positions", {"eventId": "x" * 129}, "message.invalid"),
    ("queue_positions", {"positions": []}, "message.invalid"),
    ("queue_positions", {"positions": [{"userId": "a b", "position": 1}]}, "message.invalid"),
    ("queue_positions", {"positions": [{"userId": "alice", "position": -1}]}, "message.invalid"),
    ("queue_proceed", {"token": ""}, "message.invalid"),
    ("queue_proceed", {"token": "x" * 4097}, "message.invalid"),
    ("queue_proceed", {"proceedId": "x" * 129}, "publish.invalid"),
    ("queue_proceed", {"expiresAt": 0}, "message.invalid"),
    ("queue_remove", {"userId": "a b"}, "message.invalid"),
]
