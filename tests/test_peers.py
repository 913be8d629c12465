"""Peers: what a node does when the broker tells it of other nodes, of a gap, and that the store is back."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.broker.interface import Held, IPeer, Kept, Preferences
from realtime.connections import Connection, State
from realtime.errors import BrokerUnavailable, Close
from realtime.messages import Owner
from realtime.signals import Crowded, Ended, Preferred, Signal, encode

from .house import Client, House


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.build()

    def build(self, **settings: Any) -> None:
        self.house = House(**settings)
        self.addCleanup(self.house.stop)
        self.node = self.house.node
        self.peers = self.node.peers

    def connection(self, client: Client) -> Connection:
        found = self.node.connections.get(client.sid)
        assert found is not None
        return found

    def signal(self, signal: Signal) -> None:
        self.peers.signalled(*encode(signal))

    def live(self, client: Client) -> bool:
        return client.outlet.close_reason is None and self.node.connections.get(client.sid) is not None


class InterfaceTests(_Case):
    def test_interface(self) -> None:
        """It provides ``IPeer``."""
        verifyObject(IPeer, self.peers)


class ResetTests(_Case):
    """`Peers.reset`: what was missed is not surely all."""

    def test_in_any_channel(self) -> None:
        """Every live connection is told by ``system:connected`` of the gap, and of the place behind it."""
        clients = [self.house.client(user) for user in ("alice", "alice", "bob")]
        anonymous = self.house.client().connect()
        gone = self.house.client("carol")
        gone.cut()
        for client in (*clients, anonymous, gone):
            client.news()
        self.house.publish("room:lobby:message", {"text": "nobody is there"})
        self.peers.reset(None)
        for client, user in zip(clients, ("alice", "alice", "bob"), strict=True):
            before = client.offset
            ((event, told),) = client.news()
            self.assertEqual(event, "system:connected")
            self.assertEqual(
                (told["userId"], told["connectionId"], told["recovered"]), (user, client.sid, False)
            )
            self.assertNotEqual(client.offset, before)
            self.assertEqual(client.offset, str(self.node.broker.sequence()))
        self.assertEqual((anonymous.news(), gone.news()), ([], []))

    def test_in_some_channels(self) -> None:
        """Only who is in one of them is told, once."""
        one, other, neither = (self.house.client(user) for user in ("alice", "bob", "carol"))
        one.join("lobby")
        one.join("event:7")
        other.join("event:7")
        neither.join("event:8")
        for client in (one, other, neither):
            client.news()
        self.peers.reset(frozenset(("lobby", "event:7", "user:nobody")))
        self.assertEqual([event[0] for event in one.news()], ["system:connected"])
        self.assertEqual([event[0] for event in other.news()], ["system:connected"])
        self.assertEqual(neither.news(), [])
        self.peers.reset(frozenset(("user:carol",)))
        self.assertEqual([event[0] for event in neither.news()], ["system:connected"])
        self.peers.reset(frozenset())
        self.assertEqual([client.news() for client in (one, other, neither)], [[], [], []])

    def test_in_the_channel_of_everyone(self) -> None:
        """What is for everyone, or for several rooms, goes to whoever is there."""
        client = self.house.client("alice")
        client.news()
        self.peers.reset(frozenset(("*",)))
        self.assertEqual([event[0] for event in client.news()], ["system:connected"])

    def test_recovery_after_it(self) -> None:
        """A client that is cut after it recovers from there, and nothing from before."""
        client = self.house.client("alice")
        client.join("lobby")
        client.news()
        self.house.publish("room:lobby:message", {"text": "lost"})
        self.peers.reset(None)
        client.news()
        client.cut()
        self.house.publish("room:lobby:message", {"text": "missed"})
        back = client.back(token=self.house.token("alice"))
        self.assertEqual([told["text"] for told in back.heard("room:message")], ["missed"])


class SignalledTests(_Case):
    """`Peers.signalled`: what other nodes, or this one, have said."""

    def test_ended(self) -> None:
        """Of the user's connections those that were named are closed for good, and no others."""
        here, other = self.house.client("alice"), self.house.client("alice")
        bob = self.house.client("bob")
        here.news()
        self.signal(Ended("alice", (here.sid, bob.sid, "on another node"), "kicked"))
        self.assertIs(here.outlet.close_reason, Close.KICKED)
        self.assertEqual([told["code"] for told in here.heard("system:error")], ["connection.kicked"])
        self.assertEqual(here.outlet.packets()[-1], "41")
        self.assertTrue(self.live(other) and self.live(bob))
        self.signal(Ended("alice", (here.sid,), "kicked"))
        self.signal(Ended("alice", (other.sid,), "logout"))
        self.assertIs(other.outlet.close_reason, Close.LOGOUT)
        self.assertEqual(other.heard("system:error"), [])

    def test_ended_for_a_reason_of_a_later_version(self) -> None:
        """They are closed all the same, and do not come back by themselves."""
        client = self.house.client("alice")
        self.signal(Ended("alice", (client.sid,), "judged"))
        self.assertIs(client.outlet.close_reason, Close.KICKED)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_preferred(self) -> None:
        """A user's connections here are delivered to by the new preferences."""
        clients = [self.house.client("alice") for _ in range(2)]
        bob = self.house.client("bob")
        for client in (*clients, bob):
            client.join("lobby")
        self.signal(Preferred("alice", Preferences(frozenset(("room:message",)), frozenset(("event:7",)))))
        self.house.publish("room:lobby:message", {"text": "hi"})
        self.assertEqual([len(client.heard("room:message")) for client in (*clients, bob)], [0, 0, 1])
        self.assertEqual(self.connection(clients[0]).muted_rooms, {"event:7"})
        self.signal(Preferred("alice", Preferences()))
        self.signal(Preferred("nobody", Preferences()))
        self.house.publish("room:lobby:message", {"text": "hi"})
        self.assertEqual([len(client.heard("room:message")) for client in (*clients, bob)], [1, 1, 1])

    def test_preferences_are_signalled(self) -> None:
        """What a client prefers is told to all nodes before it is acknowledged."""
        told: list[tuple[str, bytes]] = []
        waiting: Deferred[None] = Deferred()

        def signal(name: str, data: bytes) -> Deferred[None]:
            told.append((name, data))
            return waiting

        self.patch(self.node.broker, "signal", signal)
        client = self.house.client("alice")
        self.assertIsNone(client.call("user:preferences", {"mutedEvents": ["ticket:sold"]}))
        self.assertEqual(told, [encode(Preferred("alice", Preferences(frozenset(("ticket:sold",)))))])
        waiting.callback(None)
        self.assertTrue(client.outlet.packets()[-1].startswith('431[{"ok":true'))

    def test_crowded(self) -> None:
        """One of the user's connections that owes a pong makes room; if none does, none."""
        clients = [self.house.client("alice") for _ in range(4)]
        self.signal(Crowded("alice"))
        self.assertTrue(all(map(self.live, clients)))
        clients[1].outlet.owes_pong = clients[2].outlet.owes_pong = True
        self.signal(Crowded("alice"))
        closed = [client.outlet.close_reason for client in clients]
        self.assertEqual(closed, [None, Close.EVICTED, None, None])
        self.signal(Crowded("alice"))
        self.signal(Crowded("nobody"))
        self.assertIs(clients[2].outlet.close_reason, Close.EVICTED)
        self.assertTrue(self.live(clients[0]) and self.live(clients[3]))

    def test_crowd_is_signalled(self) -> None:
        """Who is refused one connection more has the other nodes look for one that may be dead."""
        self.build(rate_limit_max_connections=1)
        told: list[tuple[str, bytes]] = []
        signal = self.node.broker.signal

        def heard(name: str, data: bytes) -> Any:
            told.append((name, data))
            return signal(name, data)

        self.patch(self.node.broker, "signal", heard)
        first = self.house.client("alice")
        self.assertIs(self.house.client("alice").outlet.close_reason, Close.CONNECTION_LIMIT)
        self.assertEqual(told, [encode(Crowded("alice"))])
        first.outlet.owes_pong = True
        self.assertTrue(self.live(self.house.client("alice")))
        self.assertEqual(len(told), 1)

    def test_unknown(self) -> None:
        """What this version does not know, or can't read, changes nothing and raises nothing."""
        client = self.house.client("alice")
        client.news()
        self.peers.signalled("reloaded", b"{}")
        self.peers.signalled("x" * 10_000, b"\xff")
        self.peers.signalled("ended", b'{"user":"alice"}')
        self.assertTrue(self.live(client))
        self.assertEqual(client.news(), [])
        self.assertEqual(self.flushLoggedErrors(), [])


class DisplacedTests(_Case):
    """`Peers.displaced`: another node has taken up a session."""

    def test_displaced(self) -> None:
        """The connection that held it is closed, and leaves the session to the other node."""
        client = self.house.client("alice")
        client.join("lobby")
        owner = self.connection(client).owner
        suspended: list[Any] = []
        self.patch(self.node.store, "suspend", lambda *args: suspended.append(args) or succeed(None))
        self.peers.displaced(owner)
        self.assertIs(client.outlet.close_reason, Close.REPLACED)
        self.assertEqual((len(self.node.connections), len(self.node.rooms)), (0, 0))
        client.cut()
        self.peers.displaced(owner)
        self.assertEqual(suspended, [])
        value = self.node.metrics.registry.get_sample_value
        self.assertEqual(value("realtime_disconnects_total", {"reason": "replaced"}), 1)

    def test_of_another_generation(self) -> None:
        """A connection that has taken the session up since stays; so does whoever has another id."""
        client = self.house.client("alice")
        first = self.connection(client).owner
        back = client.back(token=self.house.token("alice"))
        self.peers.displaced(first)
        self.peers.displaced(Owner("alice", "another", 1))
        self.peers.displaced(Owner("bob", back.sid, 2))
        self.assertTrue(self.live(back))
        self.peers.displaced(Owner("alice", back.sid, 2))
        self.assertIs(back.outlet.close_reason, Close.REPLACED)


class ReturnedTests(_Case):
    """`Peers.returned`: the store is compared with what lives here."""

    def setUp(self) -> None:
        super().setUp()
        self.compared: list[tuple[list[Held], bool]] = []
        self.answers: list[Deferred[list[Kept]]] = []
        self.patch(self.node.store, "compare", self.compare)

    def compare(self, held: list[Held], lost: bool) -> Deferred[list[Kept]]:
        self.compared.append((held, lost))
        self.answers.append(Deferred())
        return self.answers[-1]

    def answer(self, *kept: Kept) -> None:
        """Answer the oldest comparison; of nothing given as the store does that has it all."""
        held, _ = self.compared[len(self.compared) - len(self.answers)]
        self.answers.pop(0).callback(list(kept) or [Kept(one.owner) for one in held])

    def test_what_is_held(self) -> None:
        """The store is told of every live session: owner, rooms, which were joined, since when, idle."""
        self.house.clock.advance(2)
        client = self.house.client().connect(token=self.house.token("alice", roles=["staff"]))
        client.join("lobby")
        self.house.client().connect()
        self.house.client("bob").cut()
        connection = self.connection(client)
        connection.idle = True
        self.peers.returned(False)
        ((held, lost),) = self.compared
        rooms = {"user:alice": False, "role:staff": False, "lobby": True}
        since = int(self.house.wall() * 1000)
        expected = Held(Owner("alice", client.sid, 1), client.pid, rooms, since, True)
        self.assertEqual((held, lost), ([expected], False))

    def test_since(self) -> None:
        """A session that was taken up is present since it was."""
        client = self.house.client("alice")
        self.house.clock.advance(3)
        back = client.back(token=self.house.token("alice"))
        self.peers.returned(True)
        ((held, _),) = self.compared
        self.assertEqual(
            [(one.owner, one.since) for one in held],
            [(Owner("alice", back.sid, 2), int(self.house.wall() * 1000))],
        )

    def test_nothing_changed(self) -> None:
        """Who is held as before notices nothing."""
        client = self.house.client("alice")
        client.join("lobby")
        client.news()
        self.peers.returned(True)
        self.answer()
        self.assertTrue(self.live(client))
        self.assertEqual(client.news(), [])
        self.assertEqual(self.connection(client).rooms, {"user:alice", "lobby"})

    def test_preferences(self) -> None:
        """What a user wants by now counts, unless it was heard meanwhile what it wants."""
        alice, bob = self.house.client("alice"), self.house.client("bob")
        for client in (alice, bob):
            client.join("lobby")
        muted = Preferences(frozenset(("room:message",)))
        self.peers.returned(False)
        self.signal(Preferred("bob", Preferences(frozenset(("room:typing",)))))
        held, _ = self.compared[0]
        self.answer(*(Kept(one.owner, preferences=muted) for one in held))
        self.house.publish("room:lobby:message", {"text": "hi"})
        self.assertEqual([len(client.heard("room:message")) for client in (alice, bob)], [0, 1])
        self.peers.returned(True)
        self.answer()
        self.assertEqual(self.connection(alice).muted_events, muted.muted_events)

    def test_nobody_is_here(self) -> None:
        """The store is asked all the same: it may hold what has ended here."""
        self.peers.returned(False)
        self.assertEqual(self.compared, [([], False)])
        self.answer()

    def test_held_by_another(self) -> None:
        """A session that was taken up elsewhere, or has ended, is closed here; its client may come back."""
        clients = [self.house.client(user) for user in ("alice", "bob")]
        self.peers.returned(False)
        kept = [Kept(None), Kept(self.connection(clients[1]).owner)]
        self.answer(*kept)
        self.assertIs(clients[0].outlet.close_reason, Close.REPLACED)
        self.assertTrue(self.live(clients[1]))

    def test_later_generation(self) -> None:
        """What comes after goes by the generation under which the store has written it anew."""
        client = self.house.client("alice")
        self.peers.returned(True)
        self.answer(Kept(Owner("alice", client.sid, 7)))
        self.assertEqual(self.connection(client).generation, 7)
        asked: list[Owner] = []
        self.patch(self.node.store, "suspend", lambda owner, *rest: asked.append(owner) or succeed(None))
        client.cut()
        self.assertEqual(asked, [Owner("alice", client.sid, 7)])

    def test_full_rooms(self) -> None:
        """Who has no place any more in a room leaves it, and is told that and why."""
        client = self.house.client("alice")
        for room in ("lobby", "event:7", "event:8"):
            client.join(room)
        client.news()
        self.peers.returned(True)
        client.call("room:leave", {"roomId": "event:8"})
        client.news()
        owner = self.connection(client).owner
        self.answer(Kept(owner, frozenset(("lobby", "event:7", "event:8", "never joined"))))
        told = [(event[0], event[1].get("roomId") or event[1]["code"]) for event in client.news()]
        once = ["event:7", "lobby"]
        self.assertEqual(
            told, [pair for room in once for pair in (("room:left", room), ("system:error", "room.full"))]
        )
        connection = self.connection(client)
        self.assertEqual((connection.rooms, connection.joined), ({"user:alice"}, set()))
        self.assertIsNone(self.node.rooms.get("lobby"))
        self.assertTrue(self.live(client))

    def test_ended_meanwhile(self) -> None:
        """Who was cut while the store was asked waits under the generation that it has there now."""
        client = self.house.client("alice")
        connection = self.connection(client)
        asked: list[Owner] = []
        withdrawn: list[Owner] = []
        self.patch(self.node.store, "suspend", lambda owner, *rest: asked.append(owner) or succeed(None))
        self.patch(
            self.node.store, "withdraw", lambda owner, *rest: withdrawn.append(owner) or succeed(None)
        )
        self.peers.returned(True)
        client.cut()
        self.answer(Kept(Owner("alice", client.sid, 2), frozenset(("lobby",))))
        self.assertEqual([owner.generation for owner in asked], [1, 2])
        self.assertIs(connection.state, State.ENDED)
        self.assertEqual(len(self.node.connections), 0)
        self.house.clock.advance(self.node.settings.presence_grace + 1)
        self.assertEqual(withdrawn[-1].generation, 2)

    def test_ended_for_good_meanwhile(self) -> None:
        """Who has left, logged out or was sent away while the store was asked does not wait."""
        for end in ("leave", "logout", "kick"):
            client = self.house.client("alice")
            self.peers.returned(False)
            if end == "leave":
                client.leave()
            elif end == "logout":
                client.call("auth:logout")
            else:
                self.house.kick("alice")
            self.answer()
            self.assertIsNone(self.successResultOf(self.node.store.record(client.pid)), end)
            self.assertEqual(self.node.store.sessions, 0)

    def test_somebody_else_meanwhile(self) -> None:
        """Who has become somebody else, or begun anew, while the store was asked is not touched."""
        client, other = self.house.client("alice"), self.house.client("carol")
        old, gone = self.connection(client).owner, self.connection(other).owner
        self.peers.returned(False)
        client.call("auth:login", {"token": self.house.token("bob")})
        other.leave()
        other.connect(token=self.house.token("carol"))
        self.answer(Kept(None), Kept(_later(gone)))
        self.assertEqual(self.connection(client).owner, Owner("bob", old.connection, 1))
        self.assertEqual(self.connection(other).generation, 1)
        self.assertTrue(self.live(client) and self.live(other))

    def test_taken_up_here_meanwhile(self) -> None:
        """A session that a newer transport has taken up while the store was asked is that one's."""
        client = self.house.client("alice")
        self.peers.returned(False)
        back = client.back(token=self.house.token("alice"))
        self.answer(Kept(None))
        self.assertTrue(self.live(back))
        self.assertEqual(self.connection(back).generation, 2)

    def test_one_at_a_time(self) -> None:
        """What returns while it is compared is compared once more, however often it did."""
        self.house.client("alice")
        self.peers.returned(False)
        for _ in range(3):
            self.peers.returned(False)
        self.assertEqual(len(self.compared), 1)
        self.house.client("bob")
        self.answer()
        self.assertEqual([len(held) for held, _ in self.compared], [1, 2])
        self.answer()
        self.assertEqual(len(self.compared), 2)
        self.peers.returned(False)
        self.assertEqual(len(self.compared), 3)
        self.answer()

    def test_lost(self) -> None:
        """A store that has lost what it had is asked as such until one comparison has been done whole."""
        self.peers.returned(False)
        self.peers.returned(True)
        self.answer()
        self.answers.pop(0).errback(BrokerUnavailable())
        self.peers.returned(False)
        self.answer()
        self.peers.returned(False)
        self.answer()
        self.assertEqual([lost for _, lost in self.compared], [False, True, True, False])

    def test_lost_while_it_is_compared(self) -> None:
        """A store that loses all while it is compared is compared again as one that has."""
        self.peers.returned(True)
        self.peers.returned(True)
        self.answer()
        self.answer()
        self.peers.returned(False)
        self.answer()
        self.assertEqual([lost for _, lost in self.compared], [True, True, False])

    def test_away_again(self) -> None:
        """A store that goes again while it is asked will return again: nothing is changed or logged."""
        client = self.house.client("alice")
        self.peers.returned(False)
        self.answers.pop().errback(BrokerUnavailable())
        self.assertTrue(self.live(client))
        self.assertEqual(self.flushLoggedErrors(), [])
        self.patch(self.node.store, "compare", lambda *args: fail(BrokerUnavailable()))
        self.peers.returned(False)
        self.patch(self.node.store, "compare", self.compare)
        self.peers.returned(False)
        self.assertEqual(len(self.compared), 2)
        self.answer()

    def test_our_own_bug(self) -> None:
        """A comparison that fails otherwise is logged, and does not keep the next from being made."""
        client = self.house.client("alice")
        self.peers.returned(False)
        self.answers.pop().errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.live(client))
        self.peers.returned(False)
        self.assertEqual(len(self.compared), 2)
        self.answer()


def _later(owner: Owner) -> Owner:
    return Owner(owner.user, owner.connection, owner.generation + 1)
