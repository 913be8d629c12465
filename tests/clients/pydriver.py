"""Many sockets of python-socketio's asyncio client in one process, driven over stdin and stdout.

The commands and reports are those of ``sockets.mjs``, without ``flow`` and ``upgrade``. The options
of ``open`` are ``auth``, ``transports``, ``path`` and ``arity``: with ``arity: 1`` the handlers take
exactly one argument, as programs write them; without, they take any number.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any

import socketio
from socketio.exceptions import ConnectionError as NotConnected


def pack(value: Any) -> Any:
    """Bytes as ``{"$bytes": base64}``, at any depth."""
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [pack(item) for item in value]
    if isinstance(value, dict):
        return {name: pack(item) for name, item in value.items()}
    return value


def unpack(value: Any) -> Any:
    """The inverse of `pack`."""
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if isinstance(value, dict):
        if isinstance(value.get("$bytes"), str):
            return base64.b64decode(value["$bytes"])
        return {name: unpack(item) for name, item in value.items()}
    return value


class Socket:
    """One client, and the reports of what happens to it."""

    def __init__(self, name: str, report: Callable[[dict[str, Any]], None], arity: int | None) -> None:
        self._tell = lambda kind, **more: report({"id": name, "report": kind, **more})
        self._client = socketio.AsyncClient(reconnection_delay=0.05, reconnection_delay_max=0.2)
        self._client.on("connect", self._connected)
        self._client.on("connect_error", self._refused)
        self._client.on("disconnect", self._disconnected)
        self._client.on("*", self._event if arity is None else self._event_of_one)

    async def open(self, url: str, options: dict[str, Any]) -> None:
        """Connect, and go on reporting."""
        try:
            await self._client.connect(
                url,
                auth=options.get("auth"),
                transports=options.get("transports"),
                socketio_path=options.get("path", "/socket.io"),
                wait_timeout=30,
            )
        except NotConnected as error:
            self._tell("failed", message=str(error))

    async def emit(self, event: str, args: list[Any], ack: int | None = None) -> None:
        """Emit an event, with an acknowledgement if `ack` is given."""
        answered = None
        if ack is not None:

            def answered(*answer: Any) -> None:
                self._tell("ack", ack=ack, args=pack(answer))

        await self._client.emit(event, tuple(unpack(args)), callback=answered)

    async def cut(self, how: str) -> None:
        """End the transport as a lost network does; the client comes back by itself."""
        if how != "rude":
            raise ValueError("only rude cuts here")
        await self._client.eio.ws.close()

    async def disconnect(self) -> None:
        """The client's own disconnect."""
        await self._client.disconnect()

    async def query(self, call: int) -> None:
        """Report the state."""
        value = {
            "sid": self._client.get_sid(),
            "connected": self._client.connected,
            "transport": self._client.transport() if self._client.eio.state == "connected" else None,
        }
        self._tell("answer", call=call, value=value)

    async def _connected(self) -> None:
        self._tell(
            "connect", sid=self._client.get_sid(), recovered=None, transport=self._client.transport()
        )

    async def _refused(self, data: Any) -> None:
        given = data if isinstance(data, dict) else {"message": str(data)}
        self._tell("connect_error", message=given.get("message"), data=given.get("data"), active=None)

    async def _disconnected(self, reason: str) -> None:
        self._tell("disconnect", reason=reason, code=None, text=None, active=None)

    async def _event(self, event: str, *args: Any) -> None:
        self._tell("event", event=event, args=pack(args))

    async def _event_of_one(self, event: str, data: Any) -> None:
        self._tell("event", event=event, args=[pack(data)])


async def main() -> None:
    """Carry out the commands on stdin until it ends; those of one socket in their order."""
    sockets: dict[str, Socket] = {}
    order: dict[str, asyncio.Lock] = {}
    running: set[asyncio.Task[None]] = set()

    def report(told: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    async def run(name: str, action: str, given: dict[str, Any]) -> None:
        async with order[name]:
            try:
                await getattr(sockets[name], action)(**given)
            except Exception:
                report({"id": name, "report": "fault", "message": traceback.format_exc()})

    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        action, name = command.pop("do"), command.pop("id")
        if action == "open":
            sockets[name] = Socket(name, report, command["options"].get("arity"))
            order[name] = asyncio.Lock()
        task = asyncio.create_task(run(name, action, command))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    # The client leaves HTTP sessions open when its transport is cut; that says nothing of the service.
    logging.getLogger("asyncio").addFilter(lambda record: "Unclosed" not in record.getMessage())
    asyncio.run(main())
