"""Paths: which verb each path and method of the HTTP API stands for, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

#: Where the API says what it is.
DOCUMENT: Final = "/v1/openapi.json"

#: What the console asks by (`look`), which is not described there.
INTERNAL: Final = ("/v1/nodes", "/v1/users", "/v1/connections", "/v1/connections/{connectionId}")

#: Names in paths that may hold a slash, once decoded.
_ANY: Final = frozenset(("userId", "tokenId", "id"))


class Route(msgspec.Struct, frozen=True):
    """One path and method.

    :ivar path: with the request's fields that it holds in braces.
    :ivar query: fields that the query may have, with their type.
    :ivar body: whether the other fields are in the body.
    """

    method: str
    path: str
    verb: str
    query: Mapping[str, type] = {}
    body: bool = False

    @property
    def fields(self) -> list[str]:
        """The fields in the path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def rule(self) -> str:
        """The path as klein has it."""
        return re.sub(r"{(\w+)}", lambda m: f"<{'path:' if m[1] in _ANY else ''}{m[1]}>", self.path)


ROUTES: Final = (
    Route("POST", "/v1/publish", "publish", body=True),
    Route("POST", "/v1/broadcast", "broadcast", body=True),
    Route("POST", "/v1/batch", "batch", body=True),
    Route("GET", "/v1/receipts/{id}", "receipt"),
    Route("GET", "/v1/info", "info"),
    Route("GET", "/v1/connections/count", "count"),
    Route("GET", "/v1/rooms", "rooms", {"after": str, "limit": int}),
    Route("GET", "/v1/rooms/{roomId}/members", "members"),
    Route("DELETE", "/v1/rooms/{roomId}/members/{userId}", "kick", {"reason": str}),
    Route("POST", "/v1/rooms/{roomId}/move", "move", body=True),
    Route("GET", "/v1/rooms/{roomId}/history", "history", {"after": int, "before": int, "limit": int}),
    Route("DELETE", "/v1/rooms/{roomId}/messages", "history_remove", {"offset": int}),
    Route("PUT", "/v1/rooms/{roomId}/mutes/{userId}", "mute", body=True),
    Route("DELETE", "/v1/rooms/{roomId}/mutes/{userId}", "unmute"),
    Route("GET", "/v1/users/{userId}/presence", "presence"),
    Route(
        "DELETE",
        "/v1/users/{userId}/connections",
        "disconnect",
        {"connectionId": str, "code": int, "reason": str},
    ),
    Route("PUT", "/v1/users/{userId}/revocation", "revoke_user", body=True),
    Route("DELETE", "/v1/users/{userId}/revocation", "restore_user"),
    Route("PUT", "/v1/users/{userId}/block", "block", body=True),
    Route("DELETE", "/v1/users/{userId}/block", "unblock"),
    Route("GET", "/v1/queues/{eventId}/members", "queue_members", {"after": int, "limit": int}),
    Route("DELETE", "/v1/queues/{eventId}/members/{userId}", "queue_remove"),
    Route("POST", "/v1/queues/{eventId}/positions", "queue_positions", body=True),
    Route("POST", "/v1/queues/{eventId}/proceeds", "queue_proceed", body=True),
    Route("PUT", "/v1/revocations/{tokenId}", "revoke_token", body=True),
    Route("DELETE", "/v1/revocations/{tokenId}", "restore_token"),
)
