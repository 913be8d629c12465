"""The HTTP API: the verbs of other services over HTTP.

Every path but that of its description wants ``Authorization: Bearer KEY``; every answer is JSON. See
docs/http.rst.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from typing import Any, Final
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as NotTaken
from zope.interface import implementer

from ..api_keys import ApiKey, ApiKeys, Scope
from ..errors import (
    InternalError,
    InvalidMessage,
    MessageTooLarge,
    MethodNotAllowed,
    NotFound,
    RealtimeError,
    Unauthorized,
)
from ..pace import Pace
from ..payload import is_utf8
from ..routing import MAX_PAYLOAD
from ..security import Security
from ..transport.site import IEarly, Request
from .answers import json_answer, refusal
from .look import Route as OperatorRoute
from .paths import DOCUMENT, ROUTES, Route
from .query import peer_of
from .verbs import VERBS, Caller, Verb, Verbs

_log = Logger()

#: Bytes of a body: a payload, and what is around it.
BODY_LIMIT: Final = MAX_PAYLOAD + 16_384

#: Bytes of a body that are read so that its sender gets a refusal in the API's own words.
BODY_READ: Final = 1_048_576

#: Answers a request with what it asks for.
Direct = Callable[[Request], Deferred[bytes]]

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Api:
    """The HTTP API of one node.

    :param document: makes its OpenAPI document.
    :param operators: what only operators ask for.
    :param pace: does what is published.
    :param asked: is told of each request, what it asked for (`metrics.API_VERBS`; empty for nothing that
        there is) and the status of its answer.
    """

    def __init__(
        self,
        *,
        keys: ApiKeys,
        security: Security,
        verbs: Verbs,
        document: Callable[[], Mapping[str, Any]],
        operators: Iterable[OperatorRoute],
        pace: Pace,
        asked: Callable[[str, int], object] = lambda verb, status: None,
    ) -> None:
        self._verbs = verbs
        self._document = document
        self._operators = operators
        self.resource = ApiResource(self._app(), self._direct(), keys, security, pace, asked)

    def _direct(self) -> dict[tuple[bytes, bytes], Direct]:
        """What is published by, without klein, whose way to a function costs as much as all the rest."""
        return {
            (route.method.encode(), route.path.encode()): partial(self._perform, route, VERBS[route.verb])
            for route in ROUTES
            if route.method == "POST" and not route.fields
        }

    def _app(self) -> Any:
        app = Klein()
        for route in ROUTES:
            handler = partial(self._perform, route, VERBS[route.verb])
            handler.__name__ = f"{route.verb} {route.path}"  # type: ignore[attr-defined]
            app.route(route.rule, methods=[route.method], endpoint=handler.__name__)(handler)  # type: ignore[attr-defined]
        app.route(DOCUMENT, methods=["GET"])(self._describe)
        for scope, method, path, answer in self._operators:
            app.route(path, methods=[method])(_scoped(scope, answer))
        app.handle_errors(Exception)(_failed)
        return app

    def _describe(self, request: Request) -> bytes:
        return json_answer(request, self._document())

    def _perform(self, route: Route, verb: Verb, request: Request, **found: str) -> Deferred[bytes]:
        caller = Caller(request.found, peer_of(request))
        # Before what is asked is looked at: who may not, learns nothing of it.
        request.asked = verb.name
        caller.key.check(verb.scope)
        wanted = verb.decode(_request(route, verb, request, found))
        return self._verbs.perform(verb, wanted, caller).addCallback(partial(json_answer, request))


@implementer(IEarly)
class ApiResource(Resource):
    """The root of the listener: lets a request with the key through to the routes of `app`."""

    isLeaf = True

    def __init__(
        self,
        app: Any,
        direct: Mapping[tuple[bytes, bytes], Direct],
        keys: ApiKeys,
        security: Security,
        pace: Pace,
        asked: Callable[[str, int], object],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._asked = asked
        self._direct = direct
        self._pace = pace
        self._routes = app.resource()
        self._keys = keys
        self._security = security

    def limit(self) -> int:
        return BODY_READ

    def begin(self, request: Request) -> bool:
        try:
            self._check(request)
        except RealtimeError as error:
            if isinstance(error, Unauthorized):
                self._security.tell("api refused", address=peer_of(request), reason=error.code)
            body = refusal(request, error)
            self._asked("", error.status)
            request.answer(error.status, body)
            return False
        request.notifyFinish().addBoth(self._finished, request)
        return True

    def _finished(self, result: object, request: Request) -> None:
        self._asked(request.asked, request.code)

    def _check(self, request: Request) -> None:
        """Judge the head: before a body is read, and before klein sees what it can't decode."""
        scheme, _, sent = (request.getHeader(b"Authorization") or b"").partition(b" ")
        key = self._keys.find(sent.strip())
        if (key is None or scheme.lower() != b"bearer") and request.path != DOCUMENT.encode():
            raise Unauthorized()
        request.found = key
        if not request.method.isupper():
            raise MethodNotAllowed()
        if not is_utf8(unquote_to_bytes(request.path)):
            raise InvalidMessage("the path is not UTF-8")

    def render(self, request: Request) -> Any:
        if request.content.getbuffer().nbytes > BODY_LIMIT:
            return refusal(request, MessageTooLarge(f"the body has over {BODY_LIMIT} bytes"))
        direct = self._direct.get((request.method, request.path))
        if direct is not None:
            self._pace.do(partial(_directly, direct, request))
            return NOT_DONE_YET
        request.prepath, request.postpath = [], [*map(unquote_to_bytes, request.path[1:].split(b"/"))]
        try:
            return self._routes.render(request)
        except HTTPException:
            return refusal(request, InvalidMessage("the Host header is not valid"))


def _directly(direct: Direct, request: Request) -> None:
    if request._disconnected:
        # Who has asked has gone before it was looked at.
        return
    try:
        answering = direct(request)
    except Exception:
        _answer(_failed(request, Failure()), request)
        return
    answering.addErrback(partial(_failed, request))
    answering.addCallback(_answer, request)


def _answer(body: bytes, request: Request) -> None:
    if not request.finished and not request._disconnected:
        request.write(body)  # type: ignore[no-untyped-call]
        request.finish()  # type: ignore[no-untyped-call]


def _request(route: Route, verb: Verb, request: Request, found: Mapping[str, str]) -> bytes:
    """What is asked, as one JSON object: from the body, the path, and the query."""
    body: bytes = request.content.read()
    if route.body and not found:
        return body
    fields: dict[str, msgspec.Raw] = {}
    if body and route.body:
        fields = _fields(body, verb)
        doubled = fields.keys() & found.keys()
        if doubled:
            raise verb.invalid(f"{min(doubled)}: it is in the path")
    for name, value in found.items():
        fields[name] = msgspec.Raw(msgspec.json.encode(value))
    if not route.body:
        for name, value in _query(request).items():
            if name in route.query:
                fields[name] = msgspec.Raw(_value(value, route.query[name]))
    return msgspec.json.encode(fields)


def _scoped(scope: Scope, handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler, for requests whose key is for that."""

    @wraps(handler)  # klein tells endpoints apart by their names
    def handle(request: Request, **found: str) -> Any:
        key: ApiKey = request.found
        request.asked = handler.__name__.strip("_")
        key.check(scope)
        return handler(request, **found)

    return handle


#: A whole number, however JSON writes it, within what is exact everywhere.
_whole: Final = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.0+)?\Z", re.ASCII).match


def _fields(body: bytes, verb: Verb) -> dict[str, msgspec.Raw]:
    try:
        return _decode_fields(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise verb.invalid(f"the body is not as expected: {str(error)[:200]}") from None
    except RecursionError:
        raise verb.invalid("the body nests too deep") from None


def _value(text: str, kind: type) -> bytes:
    """A field of the query as JSON: a number where one is expected and was sent."""
    if kind is int and (whole := _whole(text)) is not None:
        return whole[1].encode()
    return msgspec.json.encode(text)


def _query(request: Request) -> dict[str, str]:
    """The query's fields; of one that is repeated, the last."""
    text = request.uri.partition(b"?")[2].decode("ascii", "replace")
    try:
        parsed = parse_qs(text, keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise InvalidMessage("the query has more than 10 fields") from None
    return {name: values[-1] for name, values in parsed.items()}


def _failed(request: Request, failure: Failure) -> bytes:
    error = failure.value
    if isinstance(error, NotTaken):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        request.setHeader(b"Allow", allowed.encode())  # type: ignore[no-untyped-call]
        return refusal(request, MethodNotAllowed(f"this path takes {allowed}"))
    if isinstance(error, HTTPException):
        # A redirect among them: it would lead where the Host header says.
        return refusal(request, NotFound())
    if isinstance(error, RealtimeError):
        return refusal(request, error)
    _log.failure("the HTTP API failed to answer", failure)
    return refusal(request, InternalError())
