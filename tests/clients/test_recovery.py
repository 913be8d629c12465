"""Connection state recovery with the real socket.io-client: nothing lost, nothing twice, in order.

Messages carry numbers that count up over all rooms; a proxy cuts the client's connections.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from .case import TRANSPORTS, LiveCase
from .drivers import Client, Driver

ROOMS = ["event:1", "event:2", "lobby"]


class RecoveryCase(LiveCase):
    """A receiver behind a proxy and a sender beside it, in three rooms."""

    async def start(self, transport: str, **environ: str) -> None:
        """Start all, and join the rooms."""
        await self.start_service(PRESENCE_GRACE="20000", **environ)
        self.proxy = self.start_proxy()
        self.driver: Driver = await self.start_node()
        self.sender = await self.connect(self.driver, "bob", transports=["websocket"])
        self.receiver = self.open(
            self.driver, "alice", url=self.proxy.url, timeout=2000, **TRANSPORTS[transport]
        )
        await self.receiver.connected()
        for client in (self.receiver, self.sender):
            for room in ROOMS:
                self.accepted(await client.call("room:join", {"roomId": room}))

    async def cut(self, *, told: bool = True) -> None:
        """Cut the receiver off until `mend`; returns once it knows."""
        self.proxy.cut(told=told)
        await self.receiver.report("disconnect")

    async def back(self, *, recovered: bool = True) -> dict[str, Any]:
        """Mend the line and wait until the receiver is connected again."""
        self.proxy.mend()
        connected = await self.receiver.connected()
        self.assertIs(connected["recovered"], recovered, "as the service says")
        self.assertIs(connected["client"]["recovered"], recovered, "as socket.recovered says")
        return connected

    async def send(self, count: int, every: int = 5, size: int = 20) -> None:
        """Send so many numbered messages, and wait until all are acknowledged."""
        self.sender.flow(ROOMS, count, every, size)
        self.assertEqual((await self.sender.report("flowed"))["refused"], [])

    async def received_all(self, count: int) -> None:
        """Check that the receiver has had each of so many messages once, in the order of sending."""
        await self.barrier(self.receiver)
        self.assertNumbers(self.receiver, list(range(count)))

    def assertNumbers(self, client: Client, expected: list[int]) -> None:
        """Check the numbers that a client received, and say shortly what is wrong with them."""
        got = [message["data"]["n"] for message in client.events("room:message")]
        if got != expected:
            missing = sorted(set(expected) - set(got))
            twice = sorted({n for n in got if got.count(n) > 1})
            turned = [(a, b) for a, b in pairwise(got) if b < a]
            self.fail(f"{len(got)} of {len(expected)}: missing {missing}, twice {twice}, turned {turned}")


class TwentyCutsTests(RecoveryCase):
    """Twenty cuts at random, while 200 messages a second flow in three rooms."""

    async def _twenty_cuts(self, transport: str) -> None:
        await self.start(transport)
        dice = random.Random(f"seed of {transport}")
        self.sender.flow(ROOMS, 1000, 20, 4)
        for _ in range(20):
            await deferLater(reactor, dice.uniform(0, 0.15))
            how = dice.randrange(3)
            if how < 2:
                await self.cut(told=how == 0)
            else:
                await self.proxy.cut_after(dice.randrange(4000), 1)
                await self.receiver.report("disconnect")
            await self.back()
        self.assertEqual((await self.sender.report("flowed"))["refused"], [])
        await self.received_all(1000)

    async def test_websocket(self) -> None:
        """Over WebSocket."""
        await self._twenty_cuts("websocket")

    async def test_polling(self) -> None:
        """Over long-polling."""
        await self._twenty_cuts("polling")

    async def test_upgrade(self) -> None:
        """With the cuts before, in and after the upgrade."""
        await self._twenty_cuts("upgrade")


class OneCutMixin:
    """What must hold of each cut, over one transport."""

    transport: str

    async def test_nothing_received_before(self: Any) -> None:
        """A client that had no event but ``system:connected`` recovers what it missed."""
        await self.start_service(PRESENCE_GRACE="20000")
        self.proxy = self.start_proxy()
        self.receiver = self.open(
            await self.start_node(), "alice", url=self.proxy.url, **TRANSPORTS[self.transport]
        )
        await self.receiver.connected()
        await self.cut()
        for n in range(3):
            await self.service.publish("notification:new", {"userId": "alice", "n": n})
        await self.back()
        await self.barrier(self.receiver)
        told = [payload["n"] for payload in self.receiver.events("notification:new")]
        self.assertEqual(told, [0, 1, 2])

    async def test_second_to_tenth_cut(self: Any) -> None:
        """Each of ten cuts is recovered, with messages before, in and after it, or with none."""
        await self.start(self.transport)
        before = await self.receiver.state()
        sent = 0
        numbers = []
        for cut in range(10):
            await self.cut(told=cut % 2 == 0)
            if cut % 3:
                await self.send(9)
                sent += 9
                numbers += list(range(9))
            await self.back()
        await self.barrier(self.receiver)
        self.assertNumbers(self.receiver, numbers)
        after = await self.receiver.state()
        self.assertEqual((after["sid"], after["session"]), (before["sid"], before["session"]))

    async def test_cut_in_the_replay(self: Any) -> None:
        """Cuts in the middle of a replay, at any byte of it, lose and repeat nothing."""
        await self.start(self.transport)
        await self.cut()
        await self.send(900)
        dice = random.Random(7)
        for size in (0, 150, 400, 700, *(dice.randrange(1000, 60_000) for _ in range(6))):
            self.proxy.mend()
            await self.proxy.cut_after(size, 1)
        self.proxy.mend()
        await self.received_all(900)
        connects = [report for report in self.receiver.reports if report["report"] == "connect"]
        self.assertEqual([report["recovered"] for report in connects[1:]], [True] * len(connects[1:]))

    async def test_unnoticed_death(self: Any) -> None:
        """A client that is back before the service has seen its old socket die takes its place."""
        await self.start(self.transport)
        await self.cut(told=False)
        await self.send(30)
        await self.back()
        await self.received_all(30)
        count = await self.service.request("GET", "/v1/connections/count")
        self.assertEqual(count.body["connections"], 2)
        members = await self.service.request("GET", f"/v1/rooms/{ROOMS[0]}/members")
        metas = {one["userId"]: len(one["metas"]) for one in members.body["members"]}
        self.assertEqual(metas, {"alice": 1, "bob": 1})


class OneCutByWebSocketTests(OneCutMixin, RecoveryCase):
    """Over WebSocket."""

    transport = "websocket"


class OneCutByPollingTests(OneCutMixin, RecoveryCase):
    """Over long-polling."""

    transport = "polling"


class SessionTests(RecoveryCase):
    """Who may take up a session, and until when."""

    async def test_another_users_token(self) -> None:
        """Another user's token with an old session id gets a fresh session, and nothing of the old."""
        await self.start("websocket")
        state = await self.receiver.state()
        await self.cut()
        await self.send(6)
        auth = {"pid": state["session"], "offset": state["offset"]}
        thief = self.open(self.driver, "carol", auth=auth)
        connected = await thief.connected()
        self.assertEqual((connected["userId"], connected["recovered"]), ("carol", False))
        self.assertNotEqual((await thief.state())["session"], state["session"])
        await self.back()
        await self.received_all(6)
        await self.barrier(thief)
        self.assertEqual(thief.events("room:message"), [])

    async def test_by_hand_while_the_old_is_alive(self) -> None:
        """The session's id and offset in another client's auth: it takes the living one's place."""
        await self.start("websocket")
        state = await self.receiver.state()
        auth = {"pid": state["session"], "offset": state["offset"]}
        self.proxy.broken = True
        second = self.open(self.driver, "alice", auth=auth, reconnection=False)
        self.assertIs((await second.connected())["recovered"], True)
        await self.receiver.report("disconnect")
        await self.send(9)
        await self.barrier(second)
        self.assertNumbers(second, list(range(9)))

    async def test_the_old_socket_is_closed(self) -> None:
        """The socket whose place was taken is closed at once, not when its pong is overdue."""
        await self.start("websocket")
        await self.cut(told=False)
        self.assertEqual(self.proxy.silent, 1)
        await self.back()

        async def closed() -> bool:
            return self.proxy.silent == 0

        await self.until(closed, "the old socket to be closed")

    async def test_too_late(self) -> None:
        """After RECOVERY_WINDOW a client gets a fresh session and is told so."""
        await self.start("websocket", RECOVERY_WINDOW="300")
        await self.cut()
        await self.send(3)
        await deferLater(reactor, 0.6)
        await self.back(recovered=False)
        await self.barrier(self.receiver)
        self.assertEqual(self.receiver.events("room:message"), [])

    async def test_nonsense(self) -> None:
        """Session ids that never were, and others' ones, give a fresh session, and harm no other."""
        await self.start("websocket")
        state = await self.receiver.state()
        await self.cut()
        for user, auth in (
            ("alice", {"pid": "nonsense", "offset": state["offset"]}),
            ("alice", {"pid": "x" * 5000, "offset": "y" * 5000}),
            ("carol", {"pid": state["session"], "offset": "x.0:99999999"}),
            ("carol", {"pid": state["session"]}),
        ):
            client = self.open(self.driver, user, auth=auth)
            self.assertIs((await client.connected())["recovered"], False, auth)
            client.disconnect()
        await self.back()

    async def test_impossible_offset(self) -> None:
        """An offset that the log can't know gives a fresh session, never a silent gap."""
        await self.start("websocket")
        epoch, _, number = (await self.receiver.state())["offset"].rpartition(":")
        for offset in (f"{epoch}:{int(number) + 1000}", f"x{epoch}:{number}", "\u2028" * 50):
            client = await self.connect(self.driver, "carol")
            session = (await client.state())["session"]
            again = self.open(self.driver, "carol", auth={"pid": session, "offset": offset})
            self.assertIs((await again.connected())["recovered"], False, offset)
            self.assertNotEqual((await again.state())["session"], session)
            for one in (client, again):
                one.disconnect()

    async def test_rooms_and_status_survive(self) -> None:
        """A recovered session is in its rooms, and its user was never offline."""
        await self.start("polling")
        self.accepted(await self.receiver.call("user:presence", {"status": "busy"}))
        await self.cut()
        await self.back()
        answer = await self.receiver.call("room:message", {"roomId": ROOMS[2], "text": "back"})
        self.accepted(answer)
        await self.sender.event("room:message", text="back")
        joined = self.accepted(await self.sender.call("room:join", {"roomId": ROOMS[2]}))
        status = {one["userId"]: one["status"] for one in joined["members"]}
        self.assertEqual(status["alice"], "busy")
        await self.barrier(self.sender)
        left = self.sender.events("room:user_left") + self.sender.events("user:offline")
        self.assertEqual(left, [])
