"""A worker of the booking queue over gRPC; see ../README.rst."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from realtime.v1 import realtime_pb2 as pb
from realtime.v1 import realtime_pb2_grpc

TARGET = os.environ.get("REALTIME_GRPC", "127.0.0.1:50051")
KEY = os.environ.get("REALTIME_KEY", "")
NAME = os.environ.get("WORKER", "booking-1")
PLACES = int(os.environ.get("PLACES", "2"))
TURN_SECONDS = float(os.environ.get("TURN_SECONDS", "300"))
STATE = Path(os.environ.get("STATE", "booking-worker.json"))
#: Positions that go in one message, at most.
BATCH = 1000


def tell(what: str, **more: Any) -> None:
    """A line for people. Tokens are not for them."""
    print(json.dumps({"what": what, **more}), flush=True)


class Worker:
    """Who waits, and whose turn it is."""

    def __init__(self) -> None:
        # event -> user -> the id of their joining, the first who joined first
        self.waiting: dict[str, dict[str, int]] = {}
        # event -> proceed -> whose turn it is, with which token, until when (ms)
        self.turns: dict[str, dict[str, Any]] = {}
        if STATE.exists():
            self.turns = json.loads(STATE.read_text())
        self.out: asyncio.Queue[pb.QueueRequest] = asyncio.Queue()
        # whether something was refused that can be done a moment later
        self.unsaid = False

    def save(self) -> None:
        new = STATE.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(self.turns))
        new.replace(STATE)

    def open(self) -> None:
        """The stream begins: what was to be said and may not have been is said again."""
        self.waiting = {}
        self.out = asyncio.Queue()
        self.send(open=pb.QueueOpen(worker=NAME, replay=True))
        self.say_turns()

    def say_turns(self) -> None:
        """What was said before is not done twice."""
        self.unsaid = False
        for event, turns in self.turns.items():
            for proceed in turns:
                self.say_proceed(event, proceed)

    def send(self, **request: Any) -> None:
        self.out.put_nowait(pb.QueueRequest(**request))

    async def requests(self) -> AsyncIterator[pb.QueueRequest]:
        while True:
            yield await self.out.get()

    def change(self, change: pb.QueueChange) -> None:
        """Something has happened in a queue."""
        tell(change.kind, id=change.id, event=change.event_id, user=change.user_id, state=change.state)
        event = change.event_id
        waiting = self.waiting.setdefault(event, {})
        if change.kind == "joined":
            waiting[change.user_id] = change.id
        elif change.kind == "left":
            waiting.pop(change.user_id, None)
        elif change.state != "acknowledged":
            # Nobody has used the turn: it is the next one's.
            self.turns.get(event, {}).pop(change.proceed_id, None)
            self.save()
        self.go_on(event)
        self.send(acknowledge=pb.QueueAcknowledge(ids=[change.id]))

    def go_on(self, event: str) -> None:
        """Let as many proceed as there is room for, and tell the others where they stand."""
        waiting, turns = self.waiting.setdefault(event, {}), self.turns.setdefault(event, {})
        for user in list(waiting)[: max(0, PLACES - len(turns))]:
            proceed = str(waiting.pop(user))
            expires = int((time.time() + TURN_SECONDS) * 1000)
            turns[proceed] = {"user": user, "token": secrets.token_urlsafe(24), "expires": expires}
            self.save()
            self.say_proceed(event, proceed)
        standing = [
            pb.Standing(user_id=user, position=place, total=len(waiting))
            for place, user in enumerate(waiting, 1)
        ]
        for at in range(0, len(standing), BATCH):
            positions = pb.QueuePositionsRequest(event_id=event, positions=standing[at : at + BATCH])
            self.send(positions=positions)

    def say_proceed(self, event: str, proceed: str) -> None:
        turn = self.turns[event][proceed]
        self.send(
            ref=int(proceed),
            proceed=pb.QueueProceedRequest(
                event_id=event,
                user_id=turn["user"],
                token=turn["token"],
                expires_at=turn["expires"],
                proceed_id=proceed,
            ),
        )

    def answered(self, response: pb.QueueResponse) -> None:
        """What became of what was said."""
        kind = response.WhichOneof("response")
        if kind == "error":
            tell("refused", code=response.error.code, message=response.error.message)
            if response.error.code == "broker.unavailable":
                self.unsaid = True
                return
        if kind == "proceed":
            tell("proceed", id=response.proceed.proceed_id, state=response.proceed.state)
        over = kind == "error" or response.proceed.state in (
            "not_waiting",
            "expired",
            "declined",
            "removed",
        )
        if kind in ("proceed", "error") and response.ref and over:
            for event, turns in self.turns.items():
                if turns.pop(str(response.ref), None) is not None:
                    self.save()
                    self.go_on(event)

    async def look_after(self) -> None:
        """What was not done for a moment's trouble is said again; a turn that is over makes room."""
        while True:
            await asyncio.sleep(1)
            if self.unsaid:
                self.say_turns()
                for event in self.waiting:
                    self.go_on(event)
            now = time.time() * 1000
            for event, turns in self.turns.items():
                over = [proceed for proceed, turn in turns.items() if turn["expires"] <= now]
                for proceed in over:
                    del turns[proceed]
                if over:
                    self.save()
                    self.go_on(event)

    async def work(self) -> None:
        """One stream, until it ends."""
        # A connection that is gone without a word is noticed by pings.
        alive = [("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000)]
        async with grpc.aio.insecure_channel(TARGET, options=alive) as channel:
            stub = realtime_pb2_grpc.RealtimeStub(channel)
            self.open()
            metadata = (("authorization", f"Bearer {KEY}"),)
            async for response in stub.Queue(self.requests(), metadata=metadata):
                if response.WhichOneof("response") == "change":
                    self.change(response.change)
                else:
                    self.answered(response)


async def main() -> None:
    worker = Worker()
    looking = asyncio.ensure_future(worker.look_after())
    pause = 0.1
    while not looking.done():
        began = time.monotonic()
        try:
            await worker.work()
        except grpc.aio.AioRpcError as error:
            tell("ended", status=error.code().name, why=error.details())
            if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                raise SystemExit(1) from None
        pause = 0.1 if time.monotonic() - began > 10 else min(2 * pause, 5.0)
        await asyncio.sleep(pause)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
