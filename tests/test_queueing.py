"""Tests for realtime.queueing and realtime.booking_workers: a queue on a whole node, by every protocol."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from autobahn.wamp.message import Authenticate
from twisted.internet.defer import Deferred

from realtime import booking_workers
from realtime.api_keys import master_key
from realtime.errors import BrokerUnavailable, RealtimeError, WorkerReplaced
from realtime.ingress.verbs import VERBS, Caller
from realtime.queues.interface import Change

from .house import Client, House, HouseCase, PlainClient
from .wampclient import WampClient

MASTER = Caller(master_key("k"), "10.0.0.1")
TOKEN = "only alice may know it"


class Worker:
    """A worker of queues, as a transport would be one.

    :ivar changes: what it was told.
    :ivar over: why it is none any more.
    """

    def __init__(self, house: House, name: str = "", replay: bool = False) -> None:
        self.house = house
        self.changes: list[Change] = []
        self.over: list[RealtimeError] = []
        house.node.workers.open(self, name, replay, self.changes.extend, self.over.append)

    def news(self) -> list[tuple[str, str]]:
        """The kind and the user of changes since it was last asked, which it acknowledges."""
        changes, self.changes[:] = list(self.changes), []
        self.acknowledge(changes)
        return [(change.kind, change.user_id) for change in changes]

    def acknowledge(self, changes: list[Change]) -> None:
        self.house.node.workers.acknowledge(self, [change.id for change in changes])
        self.house.clock.advance(0)

    def close(self) -> None:
        self.house.node.workers.close(self)


class QueueCase(HouseCase):
    def ask(self, house: House, verb: str, **request: Any) -> dict[str, Any]:
        """What a verb answers."""
        asked = VERBS[verb].decode(json.dumps(request).encode())
        done: Deferred[Any] = house.node.verbs.perform(VERBS[verb], asked, MASTER)
        answer: dict[str, Any] = json.loads(msgspec.json.encode(self.successResultOf(done)))
        return answer

    def position(self, house: House, user: str, position: int) -> None:
        told = self.ask(
            house, "queue_positions", eventId="7", positions=[{"userId": user, "position": position}]
        )
        self.assertEqual(told, {"told": 1, "notWaiting": []})

    def proceed(self, house: House, user: str, seconds: float = 60, **more: Any) -> dict[str, Any]:
        expires = int((house.wall() + seconds) * 1000)
        request = {"eventId": "7", "userId": user, "token": TOKEN, "expiresAt": expires, **more}
        return self.ask(house, "queue_proceed", **request)

    def join(self, client: Any, event: Any = "7") -> Any:
        return client.call("queue:join", {"eventId": event})


class ClientTests(QueueCase):
    """What clients see."""

    def test_flow(self) -> None:
        """Joined, positions, the proceed, confirmed: by a client that is cut in between."""
        house = self.house()
        worker = Worker(house)
        alice = house.client("alice")
        self.assertEqual(self.join(alice), {"ok": True, "eventId": "7"})
        self.assertEqual(worker.news(), [("joined", "alice")])
        self.position(house, "alice", 3)
        self.assertEqual(self.join(alice, 7)["position"], 3)
        self.assertEqual([told["position"] for told in alice.heard("queue:position")], [3])
        alice.cut()
        self.position(house, "alice", 2)
        self.position(house, "alice", 1)
        alice = alice.back(token=house.token("alice"))
        self.assertEqual([told["position"] for told in alice.heard("queue:position")], [1])
        alice.cut()
        sent = self.proceed(house, "alice")
        self.assertEqual((sent["state"], sent.get("repeated", False)), ("sent", False))
        alice = alice.back(token=house.token("alice"))
        (told,) = alice.heard("queue:proceed")
        self.assertEqual((told["eventId"], told["token"]), ("7", TOKEN))
        self.assertEqual(told["proceedId"], sent["proceedId"])
        self.assertEqual(self.proceed(house, "alice")["repeated"], True)
        confirmed = alice.call("queue:confirm", {"eventId": 7, "proceedId": told["proceedId"]})
        self.assertEqual(confirmed, {"ok": True, "eventId": "7", "proceedId": told["proceedId"]})
        (receipt,) = worker.changes
        self.assertEqual((receipt.proceed_id, receipt.state), (told["proceedId"], "acknowledged"))
        alice.cut()
        alice = alice.back(token=house.token("alice"))
        self.assertEqual(alice.heard("queue:proceed"), [])

    def test_fresh_session(self) -> None:
        """Who comes anew gets the position, and the proceed that nobody has confirmed; nobody else does."""
        house = self.house()
        alice = house.client("alice")
        self.join(alice)
        self.position(house, "alice", 5)
        other = house.client("alice")
        self.assertEqual([told["position"] for told in other.heard("queue:position")], [5])
        self.assertEqual(len(alice.heard("queue:position")), 1)
        self.proceed(house, "alice")
        self.assertEqual(len(other.heard("queue:proceed")), 1)
        third = house.client("alice")
        (told,) = third.heard("queue:proceed")
        self.assertEqual(other.heard("queue:proceed"), [])
        # Cut before it arrived, as far as we know: it is older than what this session's log holds.
        third.cut()
        third = third.back(token=house.token("alice"))
        self.assertEqual(third.heard("queue:proceed"), [told])
        self.assertEqual(self.join(third), {"ok": True, "eventId": "7", "proceed": True})
        self.assertEqual(third.heard("queue:proceed"), [told])
        third.call("queue:confirm", {"eventId": "7", "proceedId": told["proceedId"]})
        self.assertEqual(house.client("alice").heard("queue:proceed"), [])

    def test_refused(self) -> None:
        """Ids that are none, rooms that are closed, too many queues; each with its code."""
        house = self.house(queue_max_per_user=2, queue_max_waiting=1, queue_max_events=3)
        alice, bob = house.client("alice"), house.client("bob")

        def code(client: Client, event: str, **payload: Any) -> str:
            answer = client.call(event, payload)
            return "" if answer["ok"] else str(answer["error"]["code"])

        for bad in ("a b", "", "x" * 123, -1, None, 1.5, ["7"]):
            self.assertEqual(code(alice, "queue:join", eventId=bad), "message.invalid", bad)
            self.assertEqual(code(alice, "queue:leave", eventId=bad), "message.invalid", bad)
        self.assertEqual(code(alice, "queue:join", eventId="7"), "")
        self.assertEqual(code(alice, "queue:join", eventId="8"), "")
        self.assertEqual(code(alice, "queue:join", eventId="9"), "queue.limit")
        self.assertEqual(code(bob, "queue:join", eventId="7"), "queue.full")
        self.assertEqual(code(alice, "queue:leave", eventId="8"), "")
        self.assertEqual(code(alice, "queue:leave", eventId="8"), "")
        self.assertEqual(code(alice, "queue:confirm", eventId="7", proceedId="1"), "queue.unknown_proceed")
        self.assertEqual(code(alice, "queue:confirm", eventId="7", proceedId=""), "message.invalid")
        self.assertEqual(code(house.client().connect(), "queue:join", eventId="7"), "auth.required")

    def test_left(self) -> None:
        """All connections of the user hear of it, with the reason; so does the worker."""
        house = self.house()
        worker = Worker(house)
        alice, other = house.client("alice"), house.client("alice")
        self.join(alice)
        alice.call("queue:leave", {"eventId": "7"})
        for client in (alice, other):
            self.assertEqual([told["reason"] for told in client.heard("queue:left")], ["left"])
        self.join(other)
        self.assertEqual(self.ask(house, "queue_remove", eventId="7", userId="alice"), {"removed": 1})
        self.assertEqual(self.ask(house, "queue_remove", eventId="7", userId="alice"), {"removed": 0})
        self.assertEqual([told["reason"] for told in alice.heard("queue:left")], ["removed"])
        self.assertEqual(worker.changes[-1].reason, "removed")

    def test_kept_while_here(self) -> None:
        """A place is kept for as long as the user is connected, and for QUEUE_TTL after that."""
        house = self.house(queue_ttl=60.0, ws_ping_interval=10_000.0)
        worker = Worker(house)
        alice = house.client("alice")
        self.join(alice)
        for _ in range(10):
            house.clock.advance(30)
        self.assertEqual(self.ask(house, "queue_members", eventId="7")["waiting"], 1)
        self.assertEqual(house.node.queueing.waiting, 1)
        worker.news()
        alice.cut()
        for _ in range(59):
            house.clock.advance(1)
        self.assertEqual(worker.changes, [])
        for _ in range(22):
            house.clock.advance(1)
        (change,) = worker.changes
        self.assertEqual((change.kind, change.reason), ("left", "absent"))
        self.assertEqual(house.node.queueing.waiting, 0)

    def test_expired(self) -> None:
        """A proceed is of no use after its end: who comes late does not get it, and the worker hears."""
        house = self.house()
        worker = Worker(house)
        alice = house.client("alice")
        self.join(alice)
        worker.news()
        alice.cut()
        self.proceed(house, "alice", seconds=10)
        for _ in range(4):
            house.clock.advance(5)
        alice = alice.back(token=house.token("alice"))
        self.assertEqual(alice.heard("queue:proceed"), [])
        self.assertEqual([change.state for change in worker.changes], ["expired"])

    def test_members(self) -> None:
        """Page by page, from the front."""
        house = self.house()
        for user in ("carol", "alice", "bob"):
            self.join(house.client(user))
        self.position(house, "alice", 2)
        page = self.ask(house, "queue_members", eventId="7", limit=2)
        self.assertEqual([one["userId"] for one in page["members"]], ["carol", "alice"])
        self.assertEqual([one.get("position") for one in page["members"]], [None, 2])
        rest = self.ask(house, "queue_members", eventId="7", limit=2, after=page["next"])
        self.assertEqual([one["userId"] for one in rest["members"]], ["bob"])
        self.assertEqual((rest["waiting"], rest["next"]), (3, None))

    def test_rights(self) -> None:
        """Who may not be in the event's room may not wait for it."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write('[[rooms]]\npattern = "event:vip*"\njoin = ["role:vip"]\n')
        house = self.house(realtime_config=path)
        self.assertEqual(self.join(house.client("alice"), "vip-1")["error"]["code"], "room.forbidden")
        vip = house.client()
        vip.connect(token=house.token("bob", roles=["vip"]))
        self.assertTrue(self.join(vip, "vip-1")["ok"])

    def test_greeted_later(self) -> None:
        """Whom the bus keeps from being greeted is greeted once it is there."""
        house = self.house()
        self.join(house.client("alice"))
        self.position(house, "alice", 4)
        greet = house.node.queues.greet
        self.patch(house.node.queues, "greet", lambda *args: _away())
        again = house.client("alice")
        gone = house.client("alice")
        gone.cut()
        house.clock.advance(1)
        self.assertEqual(again.heard("queue:position"), [])
        self.patch(house.node.queues, "greet", greet)
        house.clock.advance(1)
        self.assertEqual([told["position"] for told in again.heard("queue:position")], [4])

    def test_protocols(self) -> None:
        """Plain JSON and WAMP: the same."""
        house = self.house()
        plain = PlainClient(house, "alice")
        wamp = WampClient(house, "bob", "wamp.2.cbor")
        for topic in ("queue.position", "queue.proceed", "queue.left"):
            wamp.subscribe(topic)
        self.assertEqual(self.join(plain), {"ok": True, "eventId": "7"})
        answer = wamp.call("queue.join", eventId=7)
        self.assertEqual(answer.kwargs["eventId"], "7")
        for user in ("alice", "bob"):
            self.position(house, user, 1)
            self.proceed(house, user)
        events = [event["event"] for event in plain.news()]
        self.assertEqual(events[-2:], ["queue:position", "queue:proceed"])
        position, proceed = wamp.heard()
        self.assertEqual((position["position"], proceed["token"]), (1, TOKEN))
        confirmed = wamp.call("queue.confirm", eventId="7", proceedId=proceed["proceedId"])
        self.assertEqual(confirmed.kwargs["proceedId"], proceed["proceedId"])

    def test_token_is_secret(self) -> None:
        """It is in no log, no metric, and not shown to an operator who looks at a connection."""
        logged = self.logged()
        house = self.house()
        alice = house.client("alice")
        service = house.client()
        service.connect(token=house.token("booking", service={"scopes": ["publish"]}))
        watches = house.node.census._watches
        connections = [connection.id for connection in house.node.connections]
        for connection in connections:
            watches.events(connection, 0)
        self.join(alice)
        expires = int((house.wall() + 60) * 1000)
        proceed = {"eventId": "7", "userId": "alice", "token": TOKEN, "expiresAt": expires}
        self.assertTrue(service.call("service:queue_proceed", proceed)["ok"])
        self.assertIn(TOKEN, str(alice.heard("queue:proceed")))
        seen = str([watches.events(connection, 0) for connection in connections])
        self.assertIn("queue:proceed", seen)
        from prometheus_client import generate_latest

        metrics = generate_latest(house.node.metrics.registry).decode()
        self.assertIn("realtime_booking_queue_proceeds_total", metrics)
        for text in (seen, metrics, str(logged)):
            self.assertNotIn(TOKEN, text)

    def logged(self) -> list[Any]:
        """What is logged from now on."""
        from twisted.logger import globalLogPublisher

        found: list[Any] = []
        globalLogPublisher.addObserver(found.append)
        self.addCleanup(globalLogPublisher.removeObserver, found.append)
        return found


def _away() -> Deferred[Any]:
    from twisted.internet.defer import fail

    return fail(BrokerUnavailable())


class WorkerTests(QueueCase):
    """What workers see."""

    def test_window(self) -> None:
        """A worker that acknowledges nothing is told no more than so much; the rest once it does."""
        self.patch(booking_workers, "WINDOW", 3)
        house = self.house()
        worker = Worker(house)
        for n in range(7):
            self.join(house.client(f"u{n}"))
        self.assertEqual([change.user_id for change in worker.changes], ["u0", "u1", "u2"])
        self.assertEqual(house.node.workers.unacknowledged, 3)
        house.clock.advance(1)
        self.assertEqual(len(worker.changes), 3)
        worker.acknowledge(worker.changes[:1])
        self.assertEqual([change.user_id for change in worker.changes], ["u0", "u1", "u2", "u3"])
        worker.acknowledge(worker.changes[1:])
        worker.acknowledge(worker.changes[4:])
        self.assertEqual([change.user_id for change in worker.changes], [f"u{n}" for n in range(7)])

    def test_died(self) -> None:
        """What a worker did not acknowledge the next one hears; what it did, no one."""
        house = self.house()
        worker = Worker(house, "w")
        for user in ("alice", "bob"):
            self.join(house.client(user))
        worker.acknowledge(worker.changes[:1])
        again = Worker(house, "w")
        self.assertEqual([type(error) for error in worker.over], [])
        self.assertEqual(again.news(), [("joined", "bob")])
        # The earlier one learns of it when it next asks.
        house.clock.advance(1)
        self.assertEqual([type(error) for error in worker.over], [WorkerReplaced])
        again.close()
        replaying = Worker(house, "v", replay=True)
        self.assertEqual(replaying.news(), [("joined", "alice"), ("joined", "bob")])
        self.assertEqual(len(house.node.workers), 1)

    def test_two(self) -> None:
        """Each queue goes to one of two workers, and to the other when that one leaves."""
        house = self.house()
        workers = [Worker(house), Worker(house)]
        for event in ("1", "2", "3", "4"):
            self.join(house.client(f"u{event}"), event)
        house.clock.advance(1)
        events = [{change.event_id for change in worker.changes} for worker in workers]
        self.assertEqual(sorted(events[0] | events[1]), ["1", "2", "3", "4"])
        self.assertEqual(events[0] & events[1], set())
        workers[0].close()
        self.assertEqual({change.event_id for change in workers[1].changes}, {"1", "2", "3", "4"})

    def test_bus_away(self) -> None:
        """What could not be told or acknowledged while the bus was away is, once it is back."""
        house = self.house()
        worker = Worker(house)
        queues = house.node.queues
        self.join(house.client("alice"))
        pull, acknowledge = queues.pull, queues.acknowledge
        self.patch(queues, "pull", lambda *args: _away())
        self.patch(queues, "acknowledge", lambda *args: _away())
        worker.acknowledge(worker.changes)
        self.join(house.client("bob"))
        house.clock.advance(1)
        self.assertEqual([change.user_id for change in worker.changes], ["alice"])
        self.patch(queues, "pull", pull)
        self.patch(queues, "acknowledge", acknowledge)
        house.clock.advance(1)
        self.assertEqual([change.user_id for change in worker.changes], ["alice", "bob"])

    def test_answer_lost(self) -> None:
        """What was pulled, and never came, is told once the bus is back."""
        house = self.house()
        worker = Worker(house)
        queues = house.node.queues
        pull = queues.pull
        self.patch(queues, "pull", lambda *args: pull(*args).addCallback(lambda _: _away()))
        self.join(house.client("alice"))
        self.assertEqual(worker.changes, [])
        self.patch(queues, "pull", pull)
        house.clock.advance(1)
        self.assertEqual([change.user_id for change in worker.changes], ["alice"])

    def test_service_client(self) -> None:
        """A client with a service token is told by ``service:queue``, and answers by events."""
        house = self.house()
        claims = {"service": {"scopes": ["publish"], "channels": ["queue:*"]}}
        socketio = house.client()
        socketio.connect(token=house.token("booking", **claims))
        self.assertTrue(socketio.call("service:queue_open", {"worker": "w1"})["ok"])
        alice = house.client("alice")
        self.join(alice)
        (change,) = socketio.heard("service:queue")
        self.assertEqual((change["kind"], change["eventId"], change["userId"]), ("joined", "7", "alice"))
        request = {"eventId": "7", "positions": [{"userId": "alice", "position": 1}]}
        self.assertEqual(socketio.call("service:queue_positions", request)["told"], 1)
        self.assertTrue(socketio.call("service:queue_acknowledge", {"ids": [change["id"]]})["ok"])
        for bad in ({"ids": ["x"]}, {}, {"ids": [1], "more": 1}):
            answer = socketio.call("service:queue_acknowledge", bad)
            self.assertEqual(answer["error"]["code"], "message.invalid")
        self.assertEqual(
            socketio.call("service:queue_open", {"worker": "a b"})["error"]["code"], "message.invalid"
        )
        # Its connection ends: others have its queues a moment later.
        alice.call("queue:leave", {"eventId": "7"})
        socketio.cut()
        wamp = WampClient(house)
        wamp.hello()
        wamp.send(Authenticate(house.token("booking2", **claims)))
        wamp.subscribe("service.queue")
        wamp.call("service.queue_open")
        house.clock.advance(1)
        house.clock.advance(1)
        self.assertEqual([told["kind"] for told in wamp.heard()], ["left"])
        wamp.call("service.queue_close")
        self.assertEqual(len(house.node.workers), 0)
        answer = wamp.call("service.queue_acknowledge", ids=[1])
        self.assertEqual(answer.kwargs["code"], "message.invalid")
        for claim in (
            {},
            {"service": {"scopes": ["read"]}},
            {"service": {"scopes": ["publish"], "channels": ["x:*"]}},
        ):
            client = house.client()
            client.connect(token=house.token("someone", **claim))
            answer = client.call("service:queue_open", {})
            self.assertEqual(answer["error"]["code"], "api.forbidden")

    def test_streamed(self) -> None:
        """Where the Redis Stream has what happens, there are no workers."""
        house = self.house(queue_stream=True)
        service = house.client()
        service.connect(token=house.token("booking", service={"scopes": ["publish"]}))
        self.assertEqual(service.call("service:queue_open", {})["error"]["code"], "queue.streamed")

    def test_watched(self) -> None:
        """Who watches hears of joins, of whom they asked for."""
        house = self.house()
        found: list[tuple[str, Any]] = []
        house.node.watching.start(self, frozenset(["alice"]), lambda *told: found.append(told))
        for user in ("alice", "bob"):
            self.join(house.client(user))
        told = [json.loads(data) for kind, data in found if kind == "queue"]
        self.assertEqual([(one["kind"], one["userId"]) for one in told], [("joined", "alice")])

    def test_metrics(self) -> None:
        house = self.house()
        worker = Worker(house)
        self.join(house.client("alice"))

        def value(name: str, **labels: str) -> float | None:
            return house.node.metrics.registry.get_sample_value(f"realtime_booking_queue_{name}", labels)

        self.assertEqual((value("workers"), value("unacknowledged"), value("places")), (1, 1, 1))
        worker.news()
        self.position(house, "alice", 1)
        house.clock.advance(3)
        sent = self.proceed(house, "alice")
        self.proceed(house, "alice")
        self.proceed(house, "nobody")
        self.ask(house, "queue_remove", eventId="7", userId="alice")
        self.assertEqual(value("unacknowledged"), 1)
        self.assertEqual(value("changes_total", kind="joined"), 1)
        self.assertEqual(value("receipts_total", state="removed"), 1)
        self.assertEqual(value("positions_total"), 1)
        for outcome in ("sent", "repeated", "not_waiting"):
            self.assertEqual(value("proceeds_total", outcome=outcome), 1, outcome)
        self.assertEqual(value("wait_seconds_count"), 1)
        self.assertEqual(value("wait_seconds_sum"), 3)
        self.assertTrue(sent["proceedId"])
