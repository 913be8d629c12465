"""The URIs by which WAMP says what the service refuses, and why it ends a session."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..errors import Close

INVALID_URI: Final = "wamp.error.invalid_uri"
NO_SUCH_REALM: Final = "wamp.error.no_such_realm"
NO_SUCH_SUBSCRIPTION: Final = "wamp.error.no_such_subscription"
NO_SUCH_REGISTRATION: Final = "wamp.error.no_such_registration"
NO_AUTH_METHOD: Final = "wamp.error.no_auth_method"
NOT_AUTHORIZED: Final = "wamp.error.not_authorized"
PROTOCOL_VIOLATION: Final = "wamp.error.protocol_violation"
GOODBYE_AND_OUT: Final = "wamp.close.goodbye_and_out"

#: Why a subscription ends that the client has not ended.
REVOKED: Final = "wamp.subscription.revoke"

#: The standard URI of a refusal, by its code. All others are ``realtime.error.{code}``.
STANDARD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "internal.error": "wamp.error.runtime_error",
        "protocol.error": PROTOCOL_VIOLATION,
        "message.invalid": "wamp.error.invalid_argument",
        "message.too_large": "wamp.error.payload_size_exceeded",
        "event.unknown": "wamp.error.no_such_procedure",
        "auth.required": NOT_AUTHORIZED,
        "auth.token_invalid": "wamp.error.authentication_failed",
        "auth.token_expired": "wamp.error.authentication_failed",
        "auth.other_subject": NOT_AUTHORIZED,
        "auth.token_revoked": "wamp.error.authentication_failed",
        "auth.blocked": "wamp.error.authentication_failed",
        "auth.refresh_reused": "wamp.error.authentication_failed",
        "auth.unavailable": "wamp.error.unavailable",
        "room.invalid_id": "wamp.error.invalid_argument",
        "room.forbidden": NOT_AUTHORIZED,
        "room.not_joined": NOT_AUTHORIZED,
        "room.muted": NOT_AUTHORIZED,
        "api.forbidden": NOT_AUTHORIZED,
        "broker.unavailable": "wamp.error.unavailable",
    }
)

#: The reason of the GOODBYE, or ABORT, by which a session ends for good; else ``realtime.close.{word}``.
CLOSES: Final[Mapping[Close, str]] = MappingProxyType(
    {
        Close.LOGOUT: "wamp.close.normal",
        Close.KICKED: "wamp.close.killed",
        Close.PROTOCOL_ERROR: PROTOCOL_VIOLATION,
        Close.REFUSED: "wamp.error.authentication_failed",
    }
)


def error_uri(code: str) -> str:
    """The URI of a refusal with this code."""
    return STANDARD.get(code) or f"realtime.error.{code}"


def close_uri(close: Close) -> str:
    """The URI that says why a session ends."""
    return CLOSES.get(close) or f"realtime.close.{close.reason}"
