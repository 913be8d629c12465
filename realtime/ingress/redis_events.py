"""RedisEvents: what becomes of what other services PUBLISH on Redis, or add to the stream."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..complaints import Complaints
from ..errors import InvalidPublication, UnknownChannel
from ..watching import OURS
from .publish import Ingest, Prepared, receipted

_log = Logger()


class RedisEvents:
    """Judges messages for the relay and the reader of the stream (`broker.pipeline.IPlainEvents`).

    :param seconds: a clock, for what is said in the log.
    :param told: called with what this service says of users: the event, and its payload.
    :ivar patterns: what to PSUBSCRIBE; no channel matches two of them.
    """

    def __init__(
        self,
        ingest: Ingest,
        seconds: Callable[[], float],
        told: Callable[[str, bytes], object] = lambda event, data: None,
    ) -> None:
        self._ingest = ingest
        self._told = told
        self._complaints = Complaints(seconds)
        self.patterns = tuple(f"{service}:*".encode() for service in sorted(ingest.services))

    def ours(self, channel: bytes, data: bytes) -> bool:
        """Whether this service said it itself, of a user (nothing else of its own is heard)."""
        ours = data.endswith(OURS) and channel.startswith(b"user:") and channel.count(b":") == 1
        if ours:
            # What is not to come in again is news of a user, for who watches.
            self._told(channel.decode(errors="replace"), data)
        return ours

    def prepare(
        self, channel: bytes, data: bytes, message_id: bytes | None, *, inside: bool, receipt: bytes = b""
    ) -> Prepared | Deferred[Prepared]:
        """What is to be published, and its idempotency key; raises a `RealtimeError` if nothing is.

        :param receipt: the id of the publication, if it is to have a receipt.
        """
        name = _text(channel, UnknownChannel("the channel is not UTF-8"))
        beside = None
        if message_id is not None:
            beside = _text(message_id, InvalidPublication("messageId is not UTF-8"))
        prepared = self._ingest.prepare(name, data, beside, inside=inside)
        if not receipt:
            return prepared
        if isinstance(prepared, Deferred):
            return prepared.addCallback(receipted, receipt.decode())
        return receipted(prepared, receipt.decode())

    def handled(self, channel: bytes, outcome: str, why: str = "") -> None:
        """Count it, and say why it was refused, of each reason now and then."""
        kind = channel.partition(b":")[0].decode(errors="replace")
        self._ingest.count(kind, outcome)
        if why and self._complaints.due(outcome):
            _log.warn(
                "refused what was published on Redis: {why}",
                why=why,
                code=outcome,
                channel=channel[:100].decode(errors="replace"),
            )


def _text(raw: bytes, error: Exception) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise error from None
