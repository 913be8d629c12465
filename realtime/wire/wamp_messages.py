"""Messages of WAMP: their types and shapes, and what a request says of its payload and its receivers."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from autobahn.wamp import message as wamp

from ..errors import InvalidMessage, ProtocolError
from ..messages import Event, Selection
from ..payload import spliced
from .wamp_codecs import Codec, Payload
from .wamp_history import Page
from .wamp_topics import Subscription

#: Sessions and users that one list of a publication's options may name.
MAX_LISTED: Final = 1000

#: Every client has it; what its token grants is not told.
AUTHROLE: Final = "user"

HELLO, WELCOME, ABORT, CHALLENGE, AUTHENTICATE, GOODBYE, ERROR = 1, 2, 3, 4, 5, 6, 8
PUBLISH, PUBLISHED, SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, UNSUBSCRIBED = 16, 17, 32, 33, 34, 35
CALL, CANCEL, RESULT, REGISTER, UNREGISTER = 48, 49, 50, 64, 66

#: What a client may send, and who reads its shape. Its errors repeat what was sent, so they are not told.
SHAPES: Final[dict[int, Any]] = {
    HELLO: wamp.Hello,
    ABORT: wamp.Abort,
    AUTHENTICATE: wamp.Authenticate,
    GOODBYE: wamp.Goodbye,
    PUBLISH: wamp.Publish,
    SUBSCRIBE: wamp.Subscribe,
    UNSUBSCRIBE: wamp.Unsubscribe,
    CALL: wamp.Call,
    CANCEL: wamp.Cancel,
    REGISTER: wamp.Register,
    UNREGISTER: wamp.Unregister,
}
#: Those that carry arguments behind their fourth element, and those that are answered by an ERROR.
WITH_ARGUMENTS: Final = frozenset((PUBLISH, CALL))
REQUESTS: Final = frozenset((PUBLISH, SUBSCRIBE, UNSUBSCRIBE, CALL, REGISTER, UNREGISTER))

GET_EVENTS: Final = "wamp.subscription.get_events"

ROLES: Final = {
    "broker": {
        "features": {
            "event_history": True,
            "pattern_based_subscription": True,
            "publisher_exclusion": True,
            "publisher_identification": True,
            "subscriber_blackwhite_listing": True,
            "subscription_revocation": True,
        }
    },
    "dealer": {"features": {}},
}


class Asked(msgspec.Struct, eq=False):
    """A request, as its answer needs it.

    :ivar subscription: what SUBSCRIBE and UNSUBSCRIBE are about.
    :ivar page: what of the history is asked for.
    :ivar joins: whether it is a call that asks for a room.
    :ivar error: the URI of the refusal, where it is not that of its code.
    :ivar told: whether it has been answered.
    """

    kind: int
    request: int
    subscription: Subscription | None = None
    page: Page | None = None
    joins: bool = False
    error: str | None = None
    told: bool = False


def payload_of(codec: Codec, arguments: list[Any]) -> Payload:
    """The payload of a message: its keyword arguments, or else its one argument, an object.

    :raises ProtocolError: it has none that can be used.
    """
    payloads = [codec.payload(argument) for argument in arguments]
    # Autobahn says null where it has none.
    given = [None if payload.data == b"null" else payload for payload in payloads]
    listed, named = [*given, None, None][:2]
    listed, named = listed or Payload(b"[]"), named or Payload(b"{}")
    if not listed.data.lstrip().startswith(b"[") or not named.data.lstrip().startswith(b"{"):
        raise ProtocolError("arguments are a list, keyword arguments an object")
    first = msgspec.json.decode(listed.data, type=list[msgspec.Raw])
    if not first:
        return named
    alone = bytes(first[0])
    if len(first) > 1 or not alone.startswith(b"{") or msgspec.json.decode(named.data):
        raise ProtocolError("the payload is the keyword arguments, or one argument that is an object")
    return Payload(alone, listed.binary)


def event_of(
    codec: Codec,
    name: str,
    arguments: list[Any],
    ack: Asked | None,
    fields: dict[str, str] | None = None,
    selection: Selection | None = None,
) -> Event:
    """A client's event; where its payload can't be used, one that is to be refused for that.

    :param fields: what the topic says of the payload.
    """
    try:
        payload = payload_of(codec, arguments)
        data = with_fields(payload.data, fields) if fields else payload.data
    except ProtocolError as error:
        return Event(name, b"{}", ack, fault=error.message)
    return Event(name, data, ack, payload.binary, selection=selection)


def welcome(realm: str, user: str, method: str, extra: dict[str, Any]) -> dict[str, Any]:
    """The details of WELCOME.

    :param method: how the client logged in.
    :param extra: what the service tells beside: ``system:connected``, and how to take the session up.
    """
    return {
        "realm": realm,
        "authid": user,
        "authrole": AUTHROLE,
        "authmethod": method,
        "authprovider": "realtime",
        "authextra": extra,
        "roles": ROLES,
    }


def valid_id(value: Any) -> bool:
    """Whether a value can be the id of a request."""
    return type(value) is int and 0 <= value <= 2**53


def with_fields(data: bytes, fields: dict[str, str]) -> bytes:
    """A payload with fields that stand for what the topic says; those of the client must not differ."""
    said = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    for name, value in fields.items():
        if name in said and bytes(said[name]) != msgspec.json.encode(value):
            raise ProtocolError(f"{name} differs from the one in the topic")
    added = msgspec.json.encode({name: value for name, value in fields.items() if name not in said})[1:-1]
    data = data.strip()
    return spliced(data if said else b"{}", [added]) if added else data


def selection_of(publish: Any, disclose: bool) -> Selection:
    """Whom a publication's options leave out, or choose.

    :param disclose: the option ``disclose_me``, which Autobahn does not read.
    :raises InvalidMessage: they name too many.
    """
    lists = {
        "except_sessions": publish.exclude,
        "except_users": publish.exclude_authid,
        "only_sessions": publish.eligible,
        "only_users": publish.eligible_authid,
    }
    if any(value is not None and len(value) > MAX_LISTED for value in lists.values()):
        raise InvalidMessage(f"a list of receivers has at most {MAX_LISTED} entries")
    nobody = AUTHROLE in (publish.exclude_authrole or ()) or (
        publish.eligible_authrole is not None and AUTHROLE not in publish.eligible_authrole
    )
    if nobody:
        lists["only_users"] = []
    return Selection(
        except_self=publish.exclude_me is not False,
        disclose=disclose,
        except_sessions=frozenset(lists["except_sessions"] or ()),
        except_users=frozenset(lists["except_users"] or ()),
        only_sessions=None if lists["only_sessions"] is None else frozenset(lists["only_sessions"]),
        only_users=None if lists["only_users"] is None else frozenset(lists["only_users"]),
    )
