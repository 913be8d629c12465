"""What two users do together, by any client: the events of DESIGN.md section 5, step by step.

The service must run with a ROOM_TYPING_TIMEOUT of far less than a minute.
"""

from __future__ import annotations

from typing import Any

from .case import LiveCase
from .drivers import Client

#: Bytes that are no text in any encoding that a client could take them for.
BYTES = bytes(range(256))


async def meet(case: LiveCase, alice: Client, bob: Client, room: str) -> None:
    """Both join a room: who is told what of whom."""
    joined = case.accepted(await alice.call("room:join", {"roomId": room}))
    case.assertEqual(joined["roomId"], room)
    case.assertEqual([(one["userId"], one["status"]) for one in joined["members"]], [("alice", "online")])
    case.assertEqual(joined["history"], [])
    case.assertIsInstance(joined["position"]["offset"], int)
    case.assertIsInstance(joined["position"]["epoch"], str)
    joined = case.accepted(await bob.call("room:join", {"roomId": room}))
    case.assertEqual([one["userId"] for one in joined["members"]], ["alice", "bob"])
    case.assertEqual([len(one["metas"]) for one in joined["members"]], [1, 1])
    told = await alice.event("room:user_joined", userId="bob")
    case.assertEqual(told["roomId"], room)
    case.assertIsInstance(told["timestamp"], int)


async def talk(case: LiveCase, alice: Client, bob: Client, room: str) -> None:
    """Alice sends text, data and bytes, once and again; both receive each once, in order."""
    contents: list[dict[str, Any]] = [
        {"text": "two seats ✓ \u2028 \U0001f3ab"},
        {"data": {"seat": {"row": 7, "price": 1.5, "taken": None}}},
        {"data": {"ticket": BYTES, "pages": [b"", b"\x00\xff"]}},
        {"data": [1, "two"]},
    ]
    sent = []
    for content in contents:
        answer = case.accepted(await alice.call("room:message", {"roomId": room, **content}))
        sent.append({**answer, "roomId": room, "userId": "alice", **content})
    repeated = {"roomId": room, "text": "once", "clientMessageId": "c-1"}
    first = case.accepted(await alice.call("room:message", repeated))
    second = case.accepted(await alice.call("room:message", repeated))
    case.assertEqual(first["id"], second["id"])
    await case.barrier(alice, bob)
    for client in (alice, bob):
        received = [message for message in client.events("room:message") if message["roomId"] == room]
        case.assertEqual(received[:-1], sent, client)
        case.assertEqual((received[-1]["text"], received[-1]["id"]), ("once", first["id"]))
        offsets = [message["offset"] for message in received]
        case.assertEqual(offsets, sorted(set(offsets)))
    back = case.accepted(await bob.call("room:message", {"roomId": room, "data": {"reply": BYTES}}))
    received = await alice.event("room:message", id=back["id"])
    case.assertEqual((received["userId"], received["data"]), ("bob", {"reply": BYTES}))


async def look_back(case: LiveCase, bob: Client, room: str) -> None:
    """Page through the room's history, backward from its end and forward from its start."""
    whole = [message for message in bob.events("room:message") if message["roomId"] == room]
    offsets = [message["offset"] for message in whole]

    async def page(**given: int) -> list[dict[str, Any]]:
        answer = case.accepted(await bob.call("room:history", {"roomId": room, **given}))
        case.assertGreaterEqual(answer["position"]["offset"], offsets[-1])
        messages = answer["messages"]
        assert isinstance(messages, list)
        return messages

    case.assertEqual(await page(), whole)
    backward: list[dict[str, Any]] = []
    before = offsets[-1] + 1
    while got := await page(before=before, limit=2):
        backward = got + backward
        before = got[0]["offset"]
    case.assertEqual(backward, whole)
    forward: list[dict[str, Any]] = []
    after = offsets[0] - 1
    while got := await page(after=after, limit=2):
        forward += got
        after = got[-1]["offset"]
    case.assertEqual(forward, whole)


async def type_something(case: LiveCase, alice: Client, bob: Client, room: str) -> None:
    """Alice types and then does nothing: Bob is told both, she is told neither."""
    case.accepted(await alice.call("user:typing", {"roomId": room, "typing": True}))
    told = await bob.event("room:typing", typing=True)
    case.assertEqual((told["roomId"], told["userId"]), (room, "alice"))
    await bob.event("room:typing", typing=False)
    await case.barrier(alice, bob)
    case.assertEqual(alice.events("room:typing"), [])
    case.assertEqual(len(bob.events("room:typing")), 2)


async def show_status(case: LiveCase, alice: Client, bob: Client, room: str) -> None:
    """Alice is busy, invisible, and there again: what Bob is told, and sees among the members."""
    case.accepted(await alice.call("user:presence", {"status": "busy", "text": "lunch"}))
    told = await bob.event("user:status_change", userId="alice")
    case.assertEqual((told["status"], told["text"]), ("busy", "lunch"))
    case.assertIsInstance(told["timestamp"], int)
    joined = case.accepted(await bob.call("room:join", {"roomId": room}))
    shown = {one["userId"]: (one["status"], one.get("text")) for one in joined["members"]}
    case.assertEqual(shown, {"alice": ("busy", "lunch"), "bob": ("online", None)})
    case.accepted(await alice.call("user:presence", {"status": "invisible"}))
    await bob.event("user:offline", userId="alice")
    case.accepted(await alice.call("user:presence", {"status": "online"}))
    await bob.event("user:online", userId="alice")


async def be_refused(case: LiveCase, alice: Client, room: str) -> None:
    """Wrong requests are answered with a stable code, also without an acknowledgement."""
    refusals = {
        "room.invalid_id": ("room:join", {"roomId": "no room!"}),
        "room.forbidden": ("room:join", {"roomId": "private:7"}),
        "room.not_joined": ("room:message", {"roomId": "elsewhere", "text": "?"}),
        "message.invalid": ("room:message", {"roomId": room}),
        "event.unknown": ("no:such_event", {}),
    }
    for code, (event, payload) in refusals.items():
        error = case.refused(await alice.call(event, payload), code)
        case.assertEqual(error.get("event"), event)
        alice.emit(event, payload)
        told = await alice.event("system:error", code=code)
        case.assertEqual(told.get("event"), event)


async def part(case: LiveCase, alice: Client, bob: Client, room: str) -> None:
    """Bob leaves: Alice is told, and he gets no more of the room."""
    case.assertEqual(case.accepted(await bob.call("room:leave", {"roomId": room})), {"roomId": room})
    await alice.event("room:user_left", userId="bob", roomId=room)
    last = case.accepted(await alice.call("room:message", {"roomId": room, "text": "alone"}))
    await alice.event("room:message", id=last["id"])
    await case.barrier(alice, bob)
    case.assertNotIn(last["id"], [message["id"] for message in bob.events("room:message")])


async def whole(case: LiveCase, alice: Client, bob: Client, room: str) -> None:
    """All of it, in order."""
    await meet(case, alice, bob, room)
    await talk(case, alice, bob, room)
    await look_back(case, bob, room)
    await type_something(case, alice, bob, room)
    await show_status(case, alice, bob, room)
    await be_refused(case, alice, room)
    await part(case, alice, bob, room)
