"""The peer: python-socketio under uvicorn, doing the part of the service's job that the load asks for.

It does less than the service: no recovery, log, history, presence, limits or metrics.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections import Counter
from typing import Any

import jwt
import socketio
import uvicorn

ROOM = re.compile(r"[A-Za-z0-9_-]+(:[A-Za-z0-9_-]+)*")
SECRET = os.environ["JWT_SECRET"]

server = socketio.AsyncServer(async_mode="asgi", max_http_buffer_size=1_000_000, logger=False)
offsets: Counter[str] = Counter()


def refusal(code: str, message: str) -> dict[str, Any]:
    return {"ok": False, "error": {"code": code, "message": message}}


def now() -> int:
    return int(time.time() * 1000)


def valid_room(room: Any) -> bool:
    return isinstance(room, str) and len(room) <= 128 and ROOM.fullmatch(room) is not None


@server.event
async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
    try:
        claims = jwt.decode(
            auth["token"], SECRET, algorithms=["HS256"], options={"require": ["sub", "exp"]}
        )
    except (jwt.InvalidTokenError, TypeError, KeyError):
        raise socketio.exceptions.ConnectionRefusedError("auth.token_invalid") from None
    user = claims["sub"]
    await server.save_session(sid, {"userId": user})
    for room in (f"user:{user}", *(f"role:{role}" for role in claims.get("roles", ()))):
        await server.enter_room(sid, room)
    told = {"userId": user, "connectionId": sid, "timestamp": now(), "expiresAt": claims["exp"] * 1000}
    await server.emit("system:connected", {**told, "recovered": False}, to=sid)


@server.on("room:join")
async def join(sid: str, data: Any) -> dict[str, Any]:
    room = data.get("roomId") if isinstance(data, dict) else None
    if not valid_room(room):
        return refusal("room.invalid_id", "the room id is not valid")
    user = (await server.get_session(sid))["userId"]
    await server.enter_room(sid, room)
    told = {"roomId": room, "userId": user, "timestamp": now()}
    if "QUIET" not in os.environ:
        await server.emit("room:user_joined", told, room=room, skip_sid=sid)
    return {"ok": True, "roomId": room}


@server.on("room:message")
async def message(sid: str, data: Any) -> dict[str, Any]:
    room, text = (data.get("roomId"), data.get("text")) if isinstance(data, dict) else (None, None)
    if not valid_room(room) or not isinstance(text, str):
        return refusal("message.invalid", "the message is not valid")
    if room not in server.rooms(sid):
        return refusal("room.not_joined", "join the room first")
    user = (await server.get_session(sid))["userId"]
    offsets[room] += 1
    made = {"id": str(uuid.uuid4()), "offset": offsets[room], "timestamp": now()}
    await server.emit("room:message", {"roomId": room, "userId": user, "text": text, **made}, room=room)
    return {"ok": True, **made}


if __name__ == "__main__":
    app = socketio.ASGIApp(server)
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", backlog=4096)
