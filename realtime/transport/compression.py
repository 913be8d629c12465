"""Compression of WebSocket messages: permessage-deflate (RFC 7692), each message by itself.

Without context takeover, in both directions: what the service sends is compressed once for all who
negotiated it (`wire.session.Frame.deflated`), and no connection keeps a window between two messages.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, Final

from autobahn.exception import PayloadCorruptError, PayloadExceededError
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept

from ..wire.request import Head
from ..wire.session import WINDOW

#: Offers of a request that are looked at.
MAX_OFFERS: Final = 16

#: Bytes of messages that one connection may have inflated in one turn of the reactor.
PER_TURN: Final = 262144

_NAME: Final = "permessage-deflate"
_BITS: Final = re.compile(r'"?([89]|1[0-5])"?')
_FLAGS: Final = ("server_no_context_takeover", "client_no_context_takeover")


def offered(head: Head) -> str | None:
    """What Autobahn is to read of a request's offers: the first that can be accepted (section 5.1)."""
    offers = [
        offer
        for name, value in head.fields
        if name == b"sec-websocket-extensions"
        for offer in value.decode("latin-1").split(",", MAX_OFFERS)[:MAX_OFFERS]
    ]
    for offer in offers[:MAX_OFFERS]:
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name.lower() == _NAME:
            bits = _bits(parameters)
            if bits is not None:
                window = f"; server_max_window_bits={bits}" if bits else ""
                return f"{_NAME}; {'; '.join(_FLAGS)}{window}"
    return None


def _bits(parameters: list[str]) -> int | None:
    """The window that an offer wants the service to keep to; 0 for any, None for one to be declined."""
    seen: dict[str, str] = {}
    for parameter in parameters:
        name, _, value = (part.strip() for part in parameter.partition("="))
        if name in seen:
            return None
        seen[name] = value
        if name in _FLAGS:
            usual = not value
        elif name == "client_max_window_bits":
            usual = not value or _BITS.fullmatch(value) is not None
        else:
            usual = name == "server_max_window_bits" and _BITS.fullmatch(value) is not None
        if not usual:
            return None
    bits = int(seen.get("server_max_window_bits", "0").strip('"'))
    return bits if not bits or bits >= WINDOW else None


def accept(offers: list[Any]) -> Any:
    """Autobahn's answer to an offer that `offered` has made; others never come here."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(
                offer, request_no_context_takeover=True, no_context_takeover=True
            )
    return None


class Inflater:
    """Inflates the messages of one connection, in the manner of Autobahn's extensions.

    It never makes more than it is allowed to, and keeps nothing between two messages.
    """

    EXTENSION_NAME = _NAME
    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream: Any = None

    def start_decompress_message(self) -> None:
        """A compressed message begins."""
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        """Part of a message.

        :raises PayloadExceededError: there is more in it than may be.
        :raises PayloadCorruptError: it is not compressed, or wrongly.
        """
        limit = max(0, max_output_len or 0)
        try:
            # one more than allowed tells what fits from what does not
            inflated: bytes = self._stream.decompress(data, limit + 1)
        except zlib.error:
            raise PayloadCorruptError("no valid deflate data") from None
        if len(inflated) > limit:
            raise PayloadExceededError("more than a message may have")
        return inflated

    def end_decompress_message(self) -> None:
        """The message is over.

        :raises PayloadCorruptError: it does not end where compressed data may.
        """
        stream, self._stream = self._stream, None
        try:
            stream.decompress(b"\x00\x00\xff\xff", 1)
        except zlib.error:
            raise PayloadCorruptError("the deflate data ends in the middle") from None
