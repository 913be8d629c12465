"""Unmodified clients of WAMP and plain JSON: autobahn-python, autobahn-js, bare WebSockets."""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet.defer import Deferred

from .case import LiveCase
from .children import DEADLINE, Child, within
from .drivers import HERE, Client

ROOM = "lobby"


class ComponentTests(LiveCase):
    """A component with decorators runs as it is, but for its URL and its ticket."""

    async def test_python(self) -> None:
        service = await self.start_service()
        for serializer in ("json", "cbor", "msgpack"):
            told: list[dict[str, Any]] = []
            ready: Deferred[None] = Deferred()

            def took(line: str, told: list[dict[str, Any]] = told, ready: Deferred[None] = ready) -> None:
                told.append(json.loads(line))
                if "booking" in told[-1]:
                    ready.callback(None)

            child = Child(took)
            directory = self.directory()
            directory.mkdir()
            url = service.url.replace("http", "ws", 1) + "/ws"
            arguments = [url, self.token("alice"), serializer]
            command = [sys.executable, str(HERE / "component.py"), *arguments]
            child.start(command, {"PATH": "", "HOME": str(directory)}, directory)
            self.addCleanup(child.stop, 10)

            async def subscribed(told: list[dict[str, Any]] = told) -> bool:
                return {"ready": True} in told

            await self.until(subscribed, "the component to be ready")
            answer = await service.publish("booking:confirmed", {"userId": "alice", "bookingId": 42})
            self.assertEqual(answer.status, 200)
            await within(DEADLINE, ready, lambda told=told: f"its booking; it told {told}")
            self.assertIn({"message": "hello", "userId": "alice"}, told)
            self.assertIn({"refused": "wamp.error.not_authorized", "code": "api.forbidden"}, told)
            self.assertEqual(len([one for one in told if "published" in one]), 1)
            self.assertEqual([one["history"][-1] for one in told if "history" in one], ["hello"])
            await child.stop(10)


class WampTests(LiveCase):
    """autobahn-js, in Node and in a page, with each serializer."""

    async def _use(self, alice: Client, bob: Client) -> None:
        """What users of the library do: subscribe, publish, call, be refused, unsubscribe."""
        for client in (alice, bob):
            made = await client.tell("subscribe", topic="room.lobby.message")
            self.assertTrue(made["ok"], made)
        sent = await alice.tell(
            "publish", topic="room.lobby.message", payload={"text": "✓"}, options={"acknowledge": True}
        )
        got = await bob.report("topic", topic="room.lobby.message")
        self.assertEqual((got["payload"]["text"], got["publication"]), ("✓", sent["publication"]))
        self.assertEqual(got["payload"]["userId"], "alice")
        history = self.accepted(await bob.call("room:history", {"roomId": ROOM}))
        self.assertEqual([message["text"] for message in history["messages"]], ["✓"])
        for topic in ("user.alice.notification.new", "room.user:alice.message", "room.private:x.message"):
            refused = await bob.tell("subscribe", topic=topic)
            self.assertEqual(refused["uri"], "wamp.error.not_authorized", topic)
            self.assertEqual(refused["error"]["code"], "room.forbidden")
        refused = await bob.tell(
            "publish", topic="booking.confirmed", payload={"userId": "alice"}, options={"acknowledge": True}
        )
        self.assertEqual(refused["uri"], "wamp.error.not_authorized")
        refused = await bob.call("no:such")
        self.assertEqual(refused["uri"], "wamp.error.no_such_procedure")
        self.assertTrue((await bob.tell("unsubscribe", subscription=made["subscription"]))["ok"])
        joined = self.accepted(await alice.call("room:join", {"roomId": ROOM}))
        self.assertEqual([member["userId"] for member in joined["members"]], ["alice"])
        self.assertEqual((await self.service.publish("notification:new", {"userId": "alice"})).status, 200)
        await alice.event("notification:new")
        await self.barrier(alice, bob)
        self.assertEqual(bob.events("notification:new"), [])

    async def test_node(self) -> None:
        for serializer in ("json", "cbor", "msgpack"):
            await self.start_service()
            driver = await self.start_node()
            clients = [
                self.direct(driver, user, "wamp", serializer=serializer) for user in ("alice", "bob")
            ]
            for client in clients:
                await client.connected()
            await self._use(*clients)

    async def test_chromium(self) -> None:
        """In a page, from another origin, that is on the list; one that is not gets nothing."""
        page = self.start_page()
        await self.start_service(WS_ALLOWED_ORIGINS=page.origin)
        driver = await self.start_chromium(page, "/wamp")
        clients = [self.direct(driver, user, "wamp") for user in ("alice", "bob")]
        plain = self.direct(driver, "carol", "plain")
        for client in (*clients, plain):
            await client.connected()
        await self._use(*clients)
        self.accepted(await plain.call("room:join", {"roomId": ROOM}))
        self.accepted(await plain.call("room:message", {"roomId": ROOM, "text": "hi"}))
        await clients[0].report("topic", topic="room.lobby.message")
        await self.start_service(WS_ALLOWED_ORIGINS="https://example.org")
        foreign = self.direct(driver, "dave", "plain")
        self.assertEqual((await foreign.report("disconnect"))["code"], 1006)

    async def test_drained(self) -> None:
        """A node that goes down is left, and come back to; who logs out, or is kicked, stays away."""
        service = await self.start_service()
        proxy = self.start_proxy()
        node, python = await self.start_node(), await self.start_autobahn()
        clients = [
            self.direct(node, "alice", "wamp", proxy.url),
            self.direct(python, "bob", "wamp", proxy.url),
            self.direct(node, "carol", "plain", proxy.url),
        ]
        for client in clients:
            await client.connected()
        for client in clients:
            client.forget()
        service.terminate()
        for client in clients:
            self.assertNotEqual((await client.report("disconnect"))["active"], False, client)
        await service.exited()
        following = await self.start_service()
        proxy.target = following.ports["PORT"]
        for client in clients:
            await client.connected()
        answer = await following.request("DELETE", "/v1/users/alice/connections")
        self.assertEqual(answer.status, 200, answer.body)
        gone = await clients[0].report("disconnect", active=False)
        self.assertEqual(gone["reason"], "closed")
        self.accepted(await clients[2].call("auth:logout", {}))
        gone = await clients[2].report("disconnect", active=False)
        self.assertEqual((gone["code"], gone["text"]), (4502, "logout"))


class PlainTests(LiveCase):
    """A WebSocket and a few lines, in Node."""

    async def test_recovery(self) -> None:
        """Cut and back with session and position: all of it, once and in order; else it is said."""
        service = await self.start_service()
        driver = await self.start_node()
        alice, bob = [self.direct(driver, user, "plain") for user in ("alice", "bob")]
        for client in (alice, bob):
            self.assertIs((await client.connected())["recovered"], False)
            self.accepted(await client.call("room:join", {"roomId": ROOM}))
        for turn in range(3):
            alice.cut("rude")
            await alice.report("disconnect")
            for n in range(20):
                answer = await bob.call("room:message", {"roomId": ROOM, "data": {"n": turn * 20 + n}})
                self.accepted(answer)
            await service.publish("booking:created", {"userId": "alice", "turn": turn})
            self.assertIs((await alice.connected())["recovered"], True)
        await self.barrier(alice, bob)
        numbers = [message["data"]["n"] for message in alice.events("room:message")]
        self.assertEqual(numbers, list(range(60)))
        self.assertEqual([one["turn"] for one in alice.events("booking:created")], [0, 1, 2])

    async def test_another_epoch(self) -> None:
        """A position of another epoch, and of a service that has forgotten: ``recovered: false``."""
        await self.start_service()
        driver = await self.start_node()
        alice = self.direct(driver, "alice", "plain")
        await alice.connected()
        alice.command("forge", position="0123456789abcdef.1:3")
        alice.cut("rude")
        self.assertIs((await alice.connected())["recovered"], False)
        position = self.accepted(await alice.call("room:join", {"roomId": ROOM}))["position"]
        position["epoch"] = "x"
        joined = self.accepted(await alice.call("room:join", {"roomId": ROOM, "position": position}))
        self.assertIs(joined["recovered"], False)

    async def test_without_a_subprotocol(self) -> None:
        """Any WebSocket will do."""
        await self.start_service()
        driver = await self.start_node()
        alice = self.direct(driver, "alice", "plain", protocols=[])
        await alice.connected()
        answer = await alice.call("ping")
        self.assertEqual(answer["ok"], True)
        refused = await alice.call("room:join", {"roomId": "user:bob"})
        self.refused(refused, "room.forbidden")

    async def test_bad_token(self) -> None:
        await self.start_service()
        driver = await self.start_node()
        client = driver.open(self.service.url.replace("http", "ws", 1) + "/ws", client="plain", token="bad")
        self.assertEqual((await client.report("connect_error"))["data"]["code"], "auth.token_invalid")


class RecoveryTests(LiveCase):
    """WAMP clients take their sessions up by ``authextra``."""

    async def test_autobahn_js(self) -> None:
        service = await self.start_service()
        driver = await self.start_node()
        bob = self.direct(driver, "bob", "plain")
        await bob.connected()
        self.accepted(await bob.call("room:join", {"roomId": ROOM}))
        alice = self.direct(driver, "alice", "wamp")
        welcome = await alice.connected()
        self.accepted(await alice.call("room:join", {"roomId": ROOM}))
        self.accepted(await bob.call("room:message", {"roomId": ROOM, "text": "seen"}))
        seen = await alice.report("event", event="room:message")
        line = welcome["position"].rpartition(":")[0]
        for n in range(10):
            self.accepted(await bob.call("room:message", {"roomId": ROOM, "data": n}))
        await self.barrier(alice)
        position = f"{line}:{seen['publication']}"
        extra = {"session": welcome["session"], "position": position}
        back = self.direct(driver, "alice", "wamp", authextra=extra)
        again = await back.connected()
        self.assertIs(again["recovered"], True)
        self.assertEqual(again["session"], welcome["session"])
        await self.service.publish("system:announcement", {"marker": "x"})
        await back.event("system:announcement", marker="x")
        self.assertEqual([message["data"] for message in back.events("room:message")], list(range(10)))
        self.assertEqual((await service.request("GET", "/v1/connections/count")).status, 200)
