"""PollingResource: the HTTP requests of Engine.IO's long-polling."""

from __future__ import annotations

import math
import re
from typing import Final

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from ..wire.engineio import Fault
from . import local
from .door import Refused
from .engine import EngineServer
from .origins import fetch_site
from .site import IEarly, Request

#: Names of header fields that a page asks to send.
_NAMES: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+( *, *[!#$%&'*+.^_`|~0-9A-Za-z-]+){0,31}")

#: Fields that are of one connection only, or told otherwise.
_OWN_FIELDS: Final = frozenset(
    (b"connection", b"content-length", b"date", b"expect", b"transfer-encoding", b"x-forwarded-for")
)

#: Seconds for which a browser may remember that it may send such requests.
_PREFLIGHT_AGE: Final = b"600"


@implementer(IEarly)
class PollingResource(Resource):
    """Long-polling requests of one Engine.IO server, with CORS for the origins it allows."""

    isLeaf = True

    def __init__(self, server: EngineServer) -> None:
        super().__init__()
        self._server = server

    def limit(self) -> int:
        """The bytes of a body at most."""
        return self._server.max_payload

    def begin(self, request: Request) -> bool:
        """Check the request before its body is read."""
        origin = request.getHeader(b"origin")
        self._share(request, origin)
        request.setHeader(b"Cache-Control", b"no-store")
        told = None if origin is None else origin.decode("latin-1")
        if request.method == b"OPTIONS" and origin is not None:
            self._preflight(request, self._server.allows(told))
            return False
        query = request.uri.partition(b"?")[2]
        neighbours = self._server.neighbours
        elsewhere = None if neighbours is None else neighbours.owner(query)
        if elsewhere is not None:
            request.found = elsewhere
            return True
        try:
            asked = self._server.judge(
                query,
                method=request.method.decode(),
                upgrade=False,
                origin=told,
                site=fetch_site(request.getHeader(b"sec-fetch-site")),
                address=request.client,
            )
        except Refused as refused:
            if refused.retry_after is not None:
                request.setHeader(b"Retry-After", b"%d" % max(1, math.ceil(refused.retry_after)))
            request.answer(refused.status, refused.body)
            return False
        socket = self._server.find(asked.sid)
        carrier = None if socket is None else socket.carrier
        request.found = asked, carrier
        if carrier is None:
            return True
        request.channel.prove()
        return request.method == b"GET" or bool(carrier.expect(request))

    def render(self, request: Request) -> int:
        """Answer the request, now or when there is something to say."""
        if isinstance(request.found, str):
            self._forward(request, request.found)
            return NOT_DONE_YET
        asked, carrier = request.found
        if carrier is None:
            origin, authorization = request.getHeader(b"origin"), request.getHeader(b"authorization")
            handshake = self._server.handshake(request.client, origin, authorization, asked)
            self._server.open_polling(request, handshake)
        elif request.method == b"POST":
            carrier.post(request)
        else:
            carrier.poll(request)
        return NOT_DONE_YET

    def _forward(self, request: Request, path: str) -> None:
        """Let the worker answer that holds the session."""
        neighbours = self._server.neighbours
        assert neighbours is not None
        fields = [
            (name, value)
            for name, values in request.requestHeaders.getAllRawHeaders()
            if name.lower() not in _OWN_FIELDS
            for value in values
        ]
        sent = local.request(request.method, request.uri, fields, request.content.read())
        answer = neighbours.forward(path, request.client, sent)
        request.lost = answer.cancel
        answer.addCallbacks(
            self._forwarded, self._not_there, callbackArgs=(request,), errbackArgs=(request,)
        )

    @staticmethod
    def _forwarded(answer: local.Answer, request: Request) -> None:
        request.lost = None
        for name, value in answer.fields:
            if name.lower() not in _OWN_FIELDS:
                request.responseHeaders.setRawHeaders(name, [value])
        if answer.status == 200:
            request.channel.prove()
        request.answer(answer.status, answer.body, answer.get(b"content-type") or b"application/json")

    @staticmethod
    def _not_there(failure: Failure, request: Request) -> None:
        failure.trap(local.NoAnswer, CancelledError)
        request.lost = None
        request.answer(Fault.UNKNOWN_SID.status, Fault.UNKNOWN_SID.body)

    def _share(self, request: Request, origin: bytes | None) -> None:
        request.setHeader(b"Vary", b"Origin")
        if origin is not None and self._server.allows(origin.decode("latin-1")):
            request.setHeader(b"Access-Control-Allow-Origin", origin)
            request.setHeader(b"Access-Control-Allow-Credentials", b"true")

    def _preflight(self, request: Request, allowed: bool) -> None:
        if not allowed:
            request.answer(Fault.FORBIDDEN.status, Fault.FORBIDDEN.body)
            return
        request.setHeader(b"Access-Control-Allow-Methods", b"GET, POST")
        request.setHeader(b"Access-Control-Max-Age", _PREFLIGHT_AGE)
        wanted = request.getHeader(b"access-control-request-headers")
        if wanted is not None and _NAMES.fullmatch(wanted):
            request.setHeader(b"Access-Control-Allow-Headers", wanted)
        request.answer(204, b"")
