"""Components of autobahn-python in one process, driven over stdin and stdout.

The commands and reports are those of ``wamp.mjs``. Each client is a `Component`, with the serializer
that its options name.
"""

from __future__ import annotations

import json
from typing import Any

from autobahn.twisted.component import Component
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions, SubscribeOptions
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept
from twisted.internet import reactor, stdio
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.protocols.basic import LineReceiver

#: Offer permessage-deflate, and take what the service makes of that.
COMPRESSION = {
    "per_message_compression_offers": [PerMessageDeflateOffer()],
    "per_message_compression_accept": PerMessageDeflateResponseAccept,
}


def event_of(topic: str) -> str:
    """The event that has a topic."""
    parts = topic.split(".")
    if parts[0] in ("room", "event") and len(parts) > 2:
        return f"{parts[0]}:{parts[2]}"
    return topic.replace(".", ":", 1)


def report(told: dict[str, Any]) -> None:
    commands.sendLine(json.dumps(told).encode())


class Socket:
    """One component, and the reports of what happens to it."""

    def __init__(self, name: str, url: str, options: dict[str, Any]) -> None:
        self.name = name
        self.session: Any = None
        self.subscriptions: dict[int, Any] = {}
        transport = {
            "type": "websocket",
            "url": url,
            "serializers": [options.get("serializer", "json")],
            "initial_retry_delay": 0.02,
            "max_retry_delay": 0.1,
            "options": COMPRESSION if options.get("compression") else {},
        }
        ticket = {"authid": "whoever", "ticket": options["token"]}
        self.component = Component(
            transports=[transport], realm="realtime", authentication={"ticket": ticket}
        )
        self.component.on_join(self._joined)
        self.component.on_leave(self._left)
        self.component.start(reactor)

    def tell(self, kind: str, **more: Any) -> None:
        report({"id": self.name, "report": kind, **more})

    async def _joined(self, session: Any, details: Any) -> None:
        self.session = session
        await session.subscribe(
            self._event, "", options=SubscribeOptions(match="prefix", details_arg="details")
        )
        extra = details.authextra
        self.tell("connect", sid=details.session, recovered=extra["recovered"], transport="websocket")
        self.tell("event", event="system:connected", args=[extra])

    def _left(self, session: Any, details: Any) -> None:
        self.tell("disconnect", reason=details.reason, code=None, text=details.message, active=None)

    def _event(self, *args: Any, details: Any, **payload: Any) -> None:
        self.tell(
            "event",
            event=event_of(details.topic),
            args=[payload],
            topic=details.topic,
            publication=details.publication,
        )

    async def emit(self, event: str, args: list[Any], ack: int | None = None) -> None:
        """Call the procedure of an event."""
        try:
            result = await self.session.call(event.replace(":", ".", 1), **(args[0] if args else {}))
            answer = result.kwresults if hasattr(result, "kwresults") else {"ok": True, "args": result}
        except ApplicationError as error:
            answer = {"ok": False, "uri": error.error, "error": error.kwargs}
        if ack is not None:
            self.tell("ack", ack=ack, args=[answer])

    async def publish(
        self, topic: str, payload: dict[str, Any], options: dict[str, Any], ack: int | None = None
    ) -> None:
        """Publish to a topic."""
        try:
            published = await self.session.publish(topic, options=PublishOptions(**options), **payload)
            answer = {"ok": True, "publication": published.id}
        except ApplicationError as error:
            answer = {"ok": False, "uri": error.error, "error": error.kwargs}
        if ack is not None:
            self.tell("ack", ack=ack, args=[answer])

    async def flow(self, rooms: list[str], count: int, every: int, size: int) -> None:
        """Send so many numbered messages at once."""
        options = PublishOptions(acknowledge=True, exclude_me=False)
        sent = [
            self.session.publish(f"room.{rooms[n % len(rooms)]}.message", data={"n": n}, options=options)
            for n in range(count)
        ]
        answers = await DeferredList(sent, consumeErrors=True)
        refused = [failure.value.kwargs for well, failure in answers if not well]
        self.tell("flowed", refused=refused)

    async def cut(self, how: str) -> None:
        """End the transport as a lost network does."""
        self.session._transport.transport.abortConnection()

    async def disconnect(self) -> None:
        """Leave the realm."""
        self.session.leave()


class Commands(LineReceiver):
    """The commands on stdin."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 24

    def __init__(self) -> None:
        self.sockets: dict[str, Socket] = {}

    def lineReceived(self, line: bytes) -> None:
        command = json.loads(line)
        action, name = command.pop("do"), command.pop("id")
        if action == "open":
            self.sockets[name] = Socket(name, command["url"], command["options"])
            return
        done = ensureDeferred(getattr(self.sockets[name], action)(**command))
        done.addErrback(
            lambda failure: report({"id": name, "report": "fault", "message": failure.getTraceback()})
        )

    def connectionLost(self, reason: Any = None) -> None:
        if reactor.running:
            reactor.stop()


commands = Commands()

if __name__ == "__main__":
    stdio.StandardIO(commands)
    reactor.run()
