"""WAMP through a whole node: topics and rooms, procedures, refusals, recovery; by each serializer."""

from __future__ import annotations

from typing import Any

from autobahn.wamp import message as wamp
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close, RoomForbidden
from realtime.ids import session_number
from realtime.messages import Audience, Publication
from realtime.wire.wamp import MAX_HELLOS
from realtime.wire.wamp_broker import MAX_SUBSCRIPTIONS
from realtime.wire.wamp_realm import UNLOGGED

from .house import House, PlainClient
from .wampclient import SERIALIZERS, WampClient


class WampCase(SynchronousTestCase):
    def house(self, **settings: Any) -> House:
        house = House(**{"rate_limit_max_connections": 100, **settings})
        self.addCleanup(house.stop)
        return house

    def member(self, house: House, user: str, topic: str = "room.lobby.message", **more: Any) -> WampClient:
        client = WampClient(house, user, **more)
        self.assertIsInstance(client.subscribe(topic), wamp.Subscribed)
        client.events()
        return client

    def refused(self, answer: Any, uri: str, code: str) -> None:
        self.assertIsInstance(answer, wamp.Error)
        self.assertEqual((answer.error, answer.kwargs["code"]), (uri, code))
        self.assertEqual(answer.args, [answer.kwargs["message"]])


class WelcomeTests(WampCase):
    def test_ticket(self) -> None:
        """HELLO, CHALLENGE, AUTHENTICATE, WELCOME; the token says who it is, whatever authid does."""
        for subprotocol in SERIALIZERS:
            house = self.house()
            client = WampClient(house, subprotocol=subprotocol)
            (challenge,) = client.hello()
            self.assertEqual((type(challenge), challenge.method), (wamp.Challenge, "ticket"))
            (welcome,) = client.send(wamp.Authenticate(house.token("alice")))
            self.assertIsInstance(welcome, wamp.Welcome)
            self.assertEqual(
                (welcome.realm, welcome.authid, welcome.authrole), ("realtime", "alice", "user")
            )
            extra = welcome.authextra
            self.assertEqual(welcome.session, session_number(extra["connectionId"]))
            self.assertEqual((extra["userId"], extra["recovered"]), ("alice", False))
            self.assertTrue(extra["session"] and extra["position"])
            self.assertEqual(set(welcome.roles), {"broker", "dealer"})

    def test_token_in_the_request(self) -> None:
        """Then there is no challenge, unless the client wants one."""
        house = self.house()
        client = WampClient(house, token=house.token("alice"))
        (welcome,) = client.hello(methods=("anonymous",))
        self.assertEqual((welcome.authid, welcome.authmethod), ("alice", "http-header"))
        client = WampClient(house, token=house.token("alice"))
        (challenge,) = client.hello(methods=("anonymous", "ticket"))
        self.assertIsInstance(challenge, wamp.Challenge)
        (welcome,) = client.send(wamp.Authenticate(house.token("bob")))
        self.assertEqual((welcome.authid, welcome.authmethod), ("bob", "ticket"))

    def test_turned_away(self) -> None:
        """ABORT, with the reason's URI; for a bad token the end, else HELLO may be tried again."""
        house = self.house()
        client = WampClient(house)
        for hello, reason in [
            ({"realm": "other"}, "wamp.error.no_such_realm"),
            ({"methods": ("anonymous",)}, "wamp.error.no_auth_method"),
            ({"methods": ()}, "wamp.error.no_auth_method"),
        ]:
            (abort,) = client.hello(**hello)
            self.assertEqual((type(abort), abort.reason), (wamp.Abort, reason))
        client.hello()
        (abort,) = client.send(wamp.Authenticate("bad"))
        self.assertEqual(abort.reason, "wamp.error.authentication_failed")
        self.assertIs(client.outlet.close_reason, Close.REFUSED)

    def test_goodbye(self) -> None:
        """GOODBYE ends the session for good; a new one may begin on the same transport."""
        house = self.house()
        client = self.member(house, "alice")
        session = client.welcome.authextra["session"]
        (goodbye,) = client.send(wamp.Goodbye())
        self.assertEqual(goodbye.reason, "wamp.close.goodbye_and_out")
        self.assertEqual(len(house.node.connections), 0)
        client.hello(session=session, position="x")
        (welcome,) = client.send(wamp.Authenticate(house.token("alice")))
        self.assertFalse(welcome.authextra["recovered"])
        self.assertEqual(client.heard(), [])

    def test_the_service_ends_it(self) -> None:
        """GOODBYE with the URI of the reason where that is final; else the transport's close is enough."""
        for close, reason in [
            (Close.KICKED, "wamp.close.killed"),
            (Close.LOGOUT, "wamp.close.normal"),
            (Close.DRAIN, None),
            (Close.TOKEN_EXPIRED, None),
        ]:
            client = WampClient(self.house(), "alice")
            session = client.receiver._session
            frame = session.farewell(close)
            if reason is None:
                self.assertIsNone(frame)
            else:
                client.outlet.write(frame)
                (goodbye,) = client.fresh()
                self.assertEqual((type(goodbye), goodbye.reason), (wamp.Goodbye, reason))
            self.assertIsNone(session.farewell(close))
            self.assertEqual(client.send(wamp.Goodbye()), [])


class WaitingTests(WampCase):
    """A store that does not answer at once, as over Redis: what is asked meanwhile keeps its order."""

    def slow(self, house: House, *names: str) -> list[Deferred[Any]]:
        """Let these methods of the store answer only when what is returned here fires."""
        held: list[Deferred[Any]] = []
        for name in names:
            answer = getattr(house.node.store, name)

            def later(*args: Any, answer: Any = answer) -> Any:
                gate: Deferred[Any] = Deferred()
                held.append(gate)
                return gate.addCallback(lambda _: answer(*args))

            self.patch(house.node.store, name, later)
        return held

    def drain(self, held: list[Deferred[Any]]) -> None:
        while held:
            held.pop(0).callback(None)

    def test_subscribed_with_the_room(self) -> None:
        """SUBSCRIBED as the room is entered, before the rest of the join is known; then its events."""
        house = self.house()
        alice, bob = WampClient(house, "alice"), self.member(house, "bob")
        held = self.slow(house, "join", "members")
        self.assertIsNone(alice.subscribe("room.lobby.message"))
        bob.publish("room.lobby.message", text="before")
        held.pop(0).callback(None)
        self.assertEqual([type(message).__name__ for message in alice.fresh()], ["Subscribed"])
        bob.publish("room.lobby.message", text="after")
        self.assertEqual([payload["text"] for payload in alice.heard()], ["after"])
        self.drain(held)
        self.assertEqual(alice.fresh(), [])

    def test_subscribing_is_cheap(self) -> None:
        """Nobody asks for members and history that SUBSCRIBED does not tell."""
        house = self.house()
        alice = WampClient(house, "alice")
        held = self.slow(house, "members")
        self.assertIsInstance(alice.subscribe("room.lobby.message"), wamp.Subscribed)
        self.assertEqual(held, [])
        self.assertIsNone(alice.call("room.join", roomId="lobby"))
        self.assertEqual(len(held), 1)

    def test_asked_for_twice(self) -> None:
        """A room that a call asks for is not left by unsubscribing, however soon the call came before."""
        for order in ("call first", "subscribe first"):
            house = self.house()
            alice = WampClient(house, "alice")
            connection = house.node.connections.of_user("alice")[0]
            number = house.node.direct.protocols["wamp.2.json"]()._realm.subscriptions.get(
                "exact", "room.lobby.message"
            )
            held = self.slow(house, "join", "leave")
            steps = [
                lambda alice=alice: alice.call("room.join", roomId="lobby"),
                lambda alice=alice: alice.subscribe("room.lobby.message"),
            ]
            for step in steps if order == "call first" else steps[::-1]:
                step()
            alice.unsubscribe(number.id)
            self.drain(held)
            self.assertEqual(connection.joined, {"lobby"}, order)
            self.assertEqual([*connection.session._broker.subscriber._by_id], [], order)
            # A call that is refused asks for nothing.
            alice.call("room.leave", roomId="lobby")
            alice.subscribe("room.lobby.message")
            house.node.guard.policy.rights.check_join = self.refuse
            alice.call("room.join", roomId="lobby")
            alice.unsubscribe(number.id)
            self.drain(held)
            self.assertEqual(connection.joined, set(), order)

    def refuse(self, identity: Any, room: str) -> None:
        raise RoomForbidden()

    def test_pipelined(self) -> None:
        """Both of a room's subscriptions end at once: it is left. One ends, another begins: it is not."""
        house = self.house()
        alice = WampClient(house, "alice")
        connection = house.node.connections.of_user("alice")[0]
        one = alice.subscribe("room.lobby.message").subscription
        two = alice.subscribe("room.lobby.typing").subscription
        held = self.slow(house, "join", "leave")
        alice.call("room.join", roomId="other")
        alice.unsubscribe(one)
        alice.unsubscribe(two)
        self.drain(held)
        self.assertEqual(connection.joined, {"other"})
        alice.subscribe("room.lobby.message")
        self.drain(held)
        (message,) = connection.session._broker.subscriber._by_id
        alice.subscribe("room.lobby.typing")
        alice.unsubscribe(message)
        self.drain(held)
        self.assertEqual(connection.joined, {"other", "lobby"})
        (typing,) = connection.session._broker.subscriber._by_id
        alice.unsubscribe(typing)
        alice.subscribe("room.lobby.typing")
        self.drain(held)
        self.assertEqual(connection.joined, {"other", "lobby"})
        (again,) = connection.session._broker.subscriber._by_id.values()
        self.assertEqual(again.uri, "room.lobby.typing")

    def test_goodbye_meanwhile(self) -> None:
        """What was asked before GOODBYE is not answered after it."""
        house = self.house()
        alice = WampClient(house, "alice")
        held = self.slow(house, "join")
        alice.subscribe("room.lobby.message")
        alice.call("room.join", roomId="other")
        (goodbye,) = alice.send(wamp.Goodbye())
        self.assertIsInstance(goodbye, wamp.Goodbye)
        self.drain(held)
        self.assertEqual(alice.fresh(), [])
        self.assertEqual(len(house.node.connections), 0)

    def test_hello_is_tried_a_few_times(self) -> None:
        client = WampClient(self.house())
        for _ in range(MAX_HELLOS):
            self.assertEqual(len(client.hello(realm="other")), 1)
        self.assertEqual(client.hello(realm="other"), [])
        self.assertIs(client.outlet.close_reason, Close.PROTOCOL_ERROR)


class TopicTests(WampCase):
    def test_room(self) -> None:
        """Subscribing joins, publishing is ``room:message``; all serializers and protocols see the same."""
        house = self.house()
        clients = [self.member(house, name, subprotocol=name) for name in SERIALIZERS]
        plain = PlainClient(house, "plain")
        joined = plain.call("room:join", {"roomId": "lobby"})
        self.assertEqual({member["userId"] for member in joined["members"]}, {*SERIALIZERS, "plain"})
        numbers = [client.publish("room.lobby.message", data={"n": 1}).publication for client in clients]
        for client, number in zip(clients, numbers, strict=True):
            events = client.events()
            # the publisher itself is left out, unless it wants to hear itself
            self.assertEqual([event.publication for event in events], [n for n in numbers if n != number])
        heard = plain.heard("room:message")
        self.assertEqual([message["userId"] for message in heard], list(SERIALIZERS))
        self.assertEqual(heard[0]["data"], {"n": 1})

    def test_one_subscription_for_all(self) -> None:
        """The id of a topic is the same for all, and its frames are made once for each serializer."""
        house = self.house()
        clients = [WampClient(house, f"u{n}") for n in range(3)]
        ids = {client.subscribe("room.lobby.message").subscription for client in clients}
        self.assertEqual(len(ids), 1)
        clients[0].publish("room.lobby.message", text="hi")
        self.assertIs(clients[1].outlet.frames[-1], clients[2].outlet.frames[-1])

    def test_options(self) -> None:
        """Who gets it: not the sender, unless asked for; without some, or only some."""
        house = self.house()
        alice, bob, carol = (self.member(house, name) for name in ("alice", "bob", "carol"))
        dave = house.client("dave")
        dave.join("lobby")
        everyone = {"alice": alice, "bob": bob, "carol": carol}
        numbers = {name: client.welcome.session for name, client in everyone.items()}
        for options, got in [
            ({}, "bob carol dave"),
            ({"exclude_me": True}, "bob carol dave"),
            ({"exclude_me": False}, "alice bob carol dave"),
            ({"exclude": [numbers["bob"]]}, "carol dave"),
            ({"exclude": [numbers["bob"], 5], "exclude_me": False}, "alice carol dave"),
            ({"exclude_authid": ["carol", "dave"]}, "bob"),
            ({"eligible": [numbers["bob"], numbers["alice"]]}, "bob"),
            ({"eligible_authid": ["carol", "nobody"]}, "carol"),
            ({"eligible": [session_number(dave.sid)]}, "dave"),
            ({"eligible_authid": ["bob"], "exclude": [numbers["bob"]]}, ""),
            ({"eligible_authrole": ["user"]}, "bob carol dave"),
            ({"eligible_authrole": ["admin"]}, ""),
            ({"exclude_authrole": ["user"]}, ""),
        ]:
            self.assertIsInstance(
                alice.publish("room.lobby.message", text="x", options=options), wamp.Published
            )
            found = [name for name, client in everyone.items() if client.heard()]
            found += ["dave"] if dave.heard("room:message") else []
            self.assertEqual(found, got.split(), options)

    def test_what_is_not_for_all_is_not_in_the_history(self) -> None:
        house = self.house()
        alice, bob = self.member(house, "alice"), self.member(house, "bob")
        alice.publish("room.lobby.message", text="all")
        alice.publish("room.lobby.message", text="whisper", options={"eligible_authid": ["alice"]})
        alice.publish("room.lobby.message", text="not bob", options={"exclude_authid": ["bob"]})
        messages = bob.call("room.history", roomId="lobby").kwargs["messages"]
        self.assertEqual([message["text"] for message in messages], ["all"])

    def test_disclose(self) -> None:
        house = self.house()
        alice, bob = self.member(house, "alice"), self.member(house, "bob")
        for disclose, told in [(True, (alice.welcome.session, "alice")), (False, (None, None))]:
            options = "true" if disclose else "false"
            alice.send_raw(f'[16,77,{{"disclose_me":{options}}},"room.lobby.message",[],{{"text":"x"}}]')
            (event,) = bob.events()
            self.assertEqual((event.publisher, event.publisher_authid), told)

    def test_payload(self) -> None:
        """The keyword arguments, or one argument that is an object; nothing else."""
        house = self.house()
        alice, bob = self.member(house, "alice"), self.member(house, "bob")
        for arguments in ('[],{"text":"a"}', '[{"text":"a"}]', 'null,{"text":"a"}', '[{"text":"a"}],{}'):
            (answer,) = alice.send_raw(f'[16,5,{{"acknowledge":true}},"room.lobby.message",{arguments}]')
            self.assertIsInstance(answer, wamp.Published)
            self.assertEqual([message["text"] for message in bob.heard()], ["a"])
        for arguments in (
            *('["a"]', '[{"text":"a"},1]', '[1],{"text":"a"}', '{"text":"a"}', "5", '"x"', "[],[]", "[],5"),
            *('[],{"text":5}', "[]", '[],{"text":"a","roomId":"other"}', '[],{"text":1e999}'),
        ):
            (answer,) = alice.send_raw(f'[16,5,{{"acknowledge":true}},"room.lobby.message",{arguments}]')
            self.refused(answer, "wamp.error.invalid_argument", "message.invalid")
        self.assertEqual(bob.heard(), [])

    def test_typing(self) -> None:
        house = self.house()
        alice, bob = self.member(house, "alice"), self.member(house, "bob", "room.lobby.typing")
        self.assertGreaterEqual(alice.publish("room.lobby.typing", typing=True).publication, UNLOGGED)
        (event,) = bob.events()
        self.assertGreaterEqual(event.publication, UNLOGGED)
        self.assertEqual((event.kwargs["userId"], event.kwargs["typing"]), ("alice", True))
        refused = alice.publish("room.lobby.typing", typing=True, options={"eligible_authid": ["bob"]})
        self.refused(refused, "wamp.error.invalid_argument", "message.invalid")

    def test_patterns(self) -> None:
        """Prefix and wildcard: the topic is told; those that name one room join it, others only filter."""
        house = self.house()
        alice = WampClient(house, "alice")
        prefix = alice.subscribe("room.", "prefix").subscription
        wildcard = alice.subscribe("room..message", "wildcard").subscription
        bob = house.client("bob")
        bob.join("lobby")
        bob.say("lobby", "1")
        self.assertEqual(alice.heard(), [])
        alice.call("room.join", roomId="lobby")
        alice.events()
        bob.say("lobby", "2")
        events = alice.events()
        self.assertEqual([event.subscription for event in events], [prefix, wildcard])
        self.assertEqual({event.topic for event in events}, {"room.lobby.message"})
        self.assertEqual(len({event.publication for event in events}), 1)
        for match, topic in [("prefix", "room.event:7."), ("wildcard", "room.a.")]:
            carol = WampClient(house, "carol")
            carol.subscribe(topic, match)
            self.assertEqual(len(house.node.connections.of_user("carol")[-1].joined), 1)
        self.assertEqual(house.node.connections.of_user("alice")[0].joined, {"lobby"})

    def test_services(self) -> None:
        """Topics of services filter what this user gets anyway; users have their own topics too."""
        house = self.house()
        alice, bob = WampClient(house, "al.ice"), WampClient(house, "bob")
        for client in (alice, bob):
            for topic in ("booking.confirmed", "system.announcement"):
                self.assertIsInstance(client.subscribe(topic), wamp.Subscribed)
        own = alice.subscribe("user.al%2Eice.notification.new").subscription
        house.publish("booking:confirmed", {"userId": "al.ice", "n": 1})
        house.publish("booking:created", {"userId": "al.ice", "n": 2})
        house.publish("user:al.ice:notification:new", {"n": 3})
        house.publish("system:announcement", {"n": 4})
        events = alice.events()
        self.assertEqual([event.kwargs["n"] for event in events], [1, 3, 4])
        self.assertEqual(events[1].subscription, own)
        self.assertEqual([payload["n"] for payload in bob.heard()], [4])

    def test_topics_of_users_by_pattern(self) -> None:
        """One pattern, several users: each is told the own topic only."""
        house = self.house()
        clients = {name: WampClient(house, name) for name in ("alice", "bob")}
        for client in clients.values():
            client.subscribe("user.", "prefix")
        audience = Audience(users=frozenset(clients))
        house.node.broker.publish(Publication("notification:new", b"{}", audience, "id", 1))
        for name, client in clients.items():
            (event,) = client.events()
            self.assertEqual(event.topic, f"user.{name}.notification.new")

    def test_unsubscribing_leaves(self) -> None:
        """The last subscription to a room's topics leaves it, unless it was joined otherwise."""
        house = self.house()
        alice = WampClient(house, "alice")
        connection = house.node.connections.of_user("alice")[0]
        first = alice.subscribe("room.lobby.message").subscription
        second = alice.subscribe("room.lobby.typing").subscription
        self.assertIsInstance(alice.unsubscribe(first), wamp.Unsubscribed)
        self.assertEqual(connection.joined, {"lobby"})
        self.assertIsInstance(alice.unsubscribe(second), wamp.Unsubscribed)
        self.assertEqual(connection.joined, set())
        alice.call("room.join", roomId="lobby")
        third = alice.subscribe("room.lobby.message").subscription
        self.assertIsInstance(alice.unsubscribe(third), wamp.Unsubscribed)
        self.assertEqual(connection.joined, {"lobby"})
        self.assertEqual(alice.unsubscribe(third).error, "wamp.error.no_such_subscription")
        house.client("bob").join("lobby")
        self.assertEqual(alice.heard(), [])

    def test_revoked(self) -> None:
        """Who leaves a room by a call, or by a token without it, loses the subscriptions to its topics."""
        house = self.house()
        for leave in (
            lambda client: client.call("room.leave", roomId="private:a"),
            lambda client: client.call("auth.token_refresh", token=house.token("alice")),
            lambda client: client.call("auth.login", token=house.token("bob")),
        ):
            client = WampClient(house, token=house.token("alice", rooms=["private:*"]))
            client.hello(methods=())
            one = client.subscribe("room.private:a.message").subscription
            client.fresh()
            client._news.clear()
            self.assertIsInstance(leave(client), wamp.Result)
            revoked = [message for message in client._news if isinstance(message, wamp.Unsubscribed)]
            self.assertEqual([(m.request, m.subscription) for m in revoked], [(0, one)])
            self.assertEqual(revoked[0].reason, "wamp.subscription.revoke")

    def test_joined_when_subscribed(self) -> None:
        """SUBSCRIBED comes when the room is entered; the events that follow belong to it."""
        house = self.house()
        alice = WampClient(house, "alice")
        alice.subscribe("room.", "prefix")
        alice.send(wamp.Subscribe(99, "room.lobby.joined"))
        kinds = [type(message).__name__ for message in alice._news[1:]]
        self.assertEqual(kinds[-3:], ["Subscribed", "Event", "Event"])

    def test_many(self) -> None:
        house = self.house(max_rooms_per_connection=1000)
        alice = WampClient(house, "alice")
        for number in range(MAX_SUBSCRIPTIONS):
            self.assertIsInstance(alice.subscribe(f"booking.n{number}"), wamp.Subscribed)
        self.refused(alice.subscribe("booking.more"), "realtime.error.room.limit", "room.limit")
        self.assertIsInstance(alice.subscribe("booking.n0"), wamp.Subscribed)


class RefusalTests(WampCase):
    """The standard error, and nothing leaks."""

    def test_topics(self) -> None:
        house = self.house()
        alice, bob = WampClient(house, "alice"), WampClient(house, "bob")
        for topic, match in [
            ("user.bob.notification.new", "exact"),
            ("user.bob.", "prefix"),
            ("user.bob.booking", "prefix"),
            ("user.bob..", "wildcard"),
            ("user.bob%2Ex.a", "exact"),
            ("role.staff.message", "exact"),
            ("role.staff.", "prefix"),
            ("room.user:bob.message", "exact"),
            ("room.user:alice.message", "exact"),
            ("room.role:staff.message", "exact"),
            ("room.user:bob.", "prefix"),
            ("wamp.session.on_join", "exact"),
            ("wamp.", "prefix"),
            ("wamp..on_join", "wildcard"),
            ("room.private:x.message", "exact"),
            ("event.bob:..", "wildcard"),
        ]:
            answer = alice.subscribe(topic, match)
            self.assertIsInstance(answer, wamp.Error, topic)
            if topic.startswith("event"):
                self.assertEqual(answer.error, "wamp.error.invalid_argument")
            else:
                self.refused(answer, "wamp.error.not_authorized", "room.forbidden")
        for topic, match in [("a b", "exact"), ("a#b", "exact")]:
            self.assertEqual(alice.subscribe(topic, match).error, "wamp.error.invalid_uri")
        for topic in ("room", "room.lobby", "one", "x" * 600):
            self.refused(alice.subscribe(topic), "wamp.error.invalid_argument", "message.invalid")
        self.refused(alice.subscribe("room.a*.message"), "wamp.error.invalid_argument", "room.invalid_id")
        for pattern in ("", "user.", "u"):
            alice.subscribe(pattern, "prefix")
        bob.call("room.join", roomId="elsewhere")
        house.publish("user:bob:notification:new", {"secret": 1})
        house.publish("booking:confirmed", {"userId": "bob", "secret": 1})
        house.publish("room:elsewhere:message", {"text": "secret"})
        self.assertNotIn("secret", str([event.kwargs for event in alice.events()]))

    def test_publishing(self) -> None:
        """Services' topics are theirs; a room has to be joined. Unasked it is told by ``system.error``."""
        house = self.house()
        alice, bob = WampClient(house, "alice"), WampClient(house, "bob")
        bob.subscribe("booking.confirmed")
        bob.subscribe("room.lobby.message")
        alice.subscribe("system.error")
        bob.events()
        for topic in (
            *("booking.confirmed", "system.error", "room.lobby.user_joined", "event.1.x", "nope"),
            *("user.bob.notification.new", "wamp.session.on_join", "role.staff.x", "user.online"),
        ):
            self.refused(
                alice.publish(topic, userId="bob", text="x"), "wamp.error.not_authorized", "api.forbidden"
            )
        self.refused(
            alice.publish("room.lobby.message", text="x"), "wamp.error.not_authorized", "room.not_joined"
        )
        self.assertEqual(alice.heard(), [])
        for topic in ("booking.confirmed", "room.lobby.message"):
            self.assertIsNone(alice.publish(topic, acknowledge=False, text="x"))
        self.assertEqual(
            [payload["code"] for payload in alice.heard()], ["api.forbidden", "room.not_joined"]
        )
        self.assertEqual(bob.heard(), [])

    def test_roles_of_the_client(self) -> None:
        """No procedures of clients; what is not known is not called."""
        client = WampClient(self.house(), "alice")
        self.refused(client.ask(wamp.Register, "my.proc"), "wamp.error.not_authorized", "room.forbidden")
        self.assertEqual(client.ask(wamp.Unregister, 5).error, "wamp.error.no_such_registration")
        for procedure in ("my.proc", "room.no", "wamp.session.count", "x"):
            self.refused(client.call(procedure), "wamp.error.no_such_procedure", "event.unknown")
            for arguments in ("[1,2]", '["x"],{"n":1}'):
                (answer,) = client.send_raw(f'[48,9,{{}},"{procedure}",{arguments}]')
                self.refused(answer, "wamp.error.no_such_procedure", "event.unknown")
        self.assertIsNone(client.ask(wamp.Cancel))

    def test_limits(self) -> None:
        """Every request counts, also those that the protocol answers by itself."""
        client = WampClient(self.house(rate_limit_max_messages=4), "alice")
        answers = [
            client.subscribe("booking.created"),
            client.subscribe("user.bob.x"),
            client.call("room.join", roomId="lobby"),
            client.call("no.such"),
        ]
        self.assertEqual(
            [type(answer).__name__ for answer in answers], ["Subscribed", "Error", "Result", "Error"]
        )
        for answer in (client.subscribe("booking.updated"), client.call("room.join", roomId="x")):
            self.refused(answer, "realtime.error.rate.limited", "rate.limited")
            self.assertGreater(answer.kwargs["retryAfter"], 0)


class CallTests(WampCase):
    def test_every_event_is_callable(self) -> None:
        """The result is the acknowledgement."""
        for subprotocol in SERIALIZERS:
            house = self.house()
            client = WampClient(house, "alice", subprotocol=subprotocol)
            calls: list[tuple[str, dict[str, Any], str]] = [
                ("auth.login", {"token": house.token("alice")}, "userId"),
                ("auth.token_refresh", {"token": house.token("alice")}, "expiresAt"),
                ("room.join", {"roomId": "lobby"}, "members"),
                ("room.message", {"roomId": "lobby", "text": "hi"}, "id"),
                ("room.history", {"roomId": "lobby"}, "messages"),
                ("user.typing", {"roomId": "lobby", "typing": True}, "ok"),
                ("user.presence", {"status": "busy"}, "ok"),
                ("user.preferences", {"mutedRooms": ["x"]}, "mutedRooms"),
                ("room.leave", {"roomId": "lobby"}, "roomId"),
                ("auth.logout", {}, "ok"),
            ]
            for procedure, payload, field in calls:
                answer = client.call(procedure, **payload)
                self.assertIsInstance(answer, wamp.Result, procedure)
                self.assertIn(field, answer.kwargs, procedure)
                self.assertIs(answer.kwargs["ok"], True)
            self.assertIs(client.outlet.close_reason, Close.LOGOUT)

    def test_binary(self) -> None:
        """Bytes of the binary serializers are what they are for all others: ``{"$binary": base64}``."""
        for subprotocol in ("wamp.2.cbor", "wamp.2.msgpack"):
            house = self.house()
            alice, bob = self.member(house, "alice", subprotocol=subprotocol), self.member(house, "bob")
            carol = house.client("carol")
            carol.join("lobby")
            alice.publish("room.lobby.message", data={"x": b"\x00\x01\xff"})
            self.assertEqual(bob.heard()[0]["data"], {"x": {"$binary": "AAH/"}})
            (frame,) = [frame for frame in carol.outlet.frames if frame.attachments]
            self.assertEqual(frame.attachments, (b"\x00\x01\xff",))

    def test_what_only_json_can_say(self) -> None:
        """What a service publishes reaches every serializer, whatever its numbers and texts."""
        house = self.house()
        clients = [self.member(house, name, "booking.created", subprotocol=name) for name in SERIALIZERS]
        for client in clients:
            data = {"userId": client.welcome.authid, "n": 10**30, "m": -(2**63), "big": 10**400}
            house.publish("booking:created", data)
            (payload,) = client.heard()
            self.assertEqual((float(payload["n"]), payload["m"]), (1e30, -(2**63)))

    def test_get_events(self) -> None:
        """History of a room's topic, by the arguments of the advanced profile."""
        house = self.house()
        alice, bob = self.member(house, "alice"), WampClient(house, "bob")
        numbers = []
        for n in range(6):
            numbers.append(alice.publish("room.lobby.message", text=str(n)).publication)
            house.clock.advance(1)
        one = bob.subscribe("room.lobby.message").subscription

        def texts(*args: Any, **kwargs: Any) -> str:
            answer = bob.call("wamp.subscription.get_events", *args, **kwargs)
            self.assertIsInstance(answer, wamp.Result, answer)
            (events,) = answer.args
            return "".join(event["kwargs"]["text"] for event in events)

        events = bob.call("wamp.subscription.get_events", one).args[0]
        self.assertEqual([event["publication"] for event in events], numbers)
        self.assertEqual(events[1]["timestamp"], "2023-11-14T22:13:21.000Z")
        self.assertEqual({event["topic"] for event in events}, {"room.lobby.message"})
        for args, kwargs, wanted in [
            ((one,), {}, "012345"),
            ((one, 2), {}, "45"),
            ((one,), {"limit": 2, "reverse": True}, "54"),
            ((one,), {"after_publication": numbers[2]}, "345"),
            ((one, 2), {"after_publication": numbers[2]}, "34"),
            ((one,), {"from_publication": numbers[2], "before_publication": numbers[4]}, "23"),
            ((one,), {"until_publication": numbers[1]}, "01"),
            ((one,), {"from_time": events[2]["timestamp"], "until_time": events[3]["timestamp"]}, "23"),
            ((one,), {"after_time": events[2]["timestamp"], "before_time": events[4]["timestamp"]}, "3"),
            ((one,), {"topic": "room.other.message"}, ""),
            ((), {"subscription": one, "limit": 1}, "5"),
        ]:
            self.assertEqual(texts(*args, **kwargs), wanted, (args, kwargs))
        for args, kwargs in [
            ((), {}),
            (("x",), {}),
            ((one, 0), {}),
            ((one, 1, 1), {}),
            ((one,), {"from_time": "yesterday"}),
            ((one,), {"from_time": "2023-11-14T22:13:21"}),
            ((one,), {"more": 1}),
        ]:
            answer = bob.call("wamp.subscription.get_events", *args, **kwargs)
            self.refused(answer, "wamp.error.invalid_argument", "message.invalid")
        answer = bob.call("wamp.subscription.get_events", 99999)
        self.assertEqual(answer.error, "wamp.error.no_such_subscription")
        service = bob.subscribe("booking.created").subscription
        self.assertEqual(texts(service), "")
        self.assertEqual(texts(bob.subscribe("room.lobby.typing").subscription), "")


class RecoveryTests(WampCase):
    """A session taken up by ``authextra``: each subscription begins with what it missed."""

    def back(self, client: WampClient, position: str, user: str = "alice", **more: Any) -> WampClient:
        return WampClient(
            client.house, user, session=client.welcome.authextra["session"], position=position, **more
        )

    def test_missed(self) -> None:
        for subprotocol in SERIALIZERS:
            house = self.house()
            alice = self.member(house, "alice", subprotocol=subprotocol)
            alice.subscribe("booking.created")
            bob = self.member(house, "bob")
            bob.publish("room.lobby.message", text="seen")
            line = alice.welcome.authextra["position"].rpartition(":")[0]
            position = f"{line}:{alice.events()[-1].publication}"
            alice.cut()
            bob.publish("room.lobby.message", text="1")
            house.publish("booking:created", {"userId": "alice", "n": 2})
            back = self.back(alice, position, subprotocol=subprotocol)
            self.assertTrue(back.welcome.authextra["recovered"])
            bob.publish("room.lobby.message", text="3")
            self.assertEqual(back.events(), [])
            back.subscribe("room.lobby.message")
            self.assertEqual([payload["text"] for payload in back.heard()], ["1", "3"])
            bob.publish("room.lobby.message", text="4")
            self.assertEqual([payload["text"] for payload in back.heard()], ["4"])
            back.subscribe("booking.created")
            self.assertEqual([payload["n"] for payload in back.heard()], [2])
            back.subscribe("room.lobby.message")
            self.assertEqual(back.heard(), [])

    def test_not_recovered(self) -> None:
        house = self.house()
        alice = self.member(house, "alice")
        alice.cut()
        for position, user in [
            ("other.1:1", "alice"),
            ("rubbish", "alice"),
            (alice.welcome.authextra["position"], "bob"),
        ]:
            back = self.back(alice, position, user)
            self.assertFalse(back.welcome.authextra["recovered"])

    def test_kept_for_a_while(self) -> None:
        """What was missed is there for subscriptions within WS_CONNECTION_TIMEOUT, and so many bytes."""
        for wait, size, kept in [(29, 10, True), (31, 10, False), (0, 30_000, False)]:
            house = self.house(ws_max_queue_bytes=50_000)
            alice = self.member(house, "alice")
            bob = self.member(house, "bob")
            position = alice.welcome.authextra["position"]
            alice.cut()
            bob.publish("room.lobby.message", text="missed")
            back = self.back(alice, position)
            self.assertTrue(back.welcome.authextra["recovered"])
            for _ in range(2):
                bob.publish("room.lobby.message", data="x" * size)
            house.clock.advance(wait)
            back.subscribe("room.lobby.message")
            self.assertEqual(
                [payload.get("text") for payload in back.heard()], ["missed", None, None] * kept
            )

    def test_left_out_is_not_recovered(self) -> None:
        """Exclusions hold for what was missed, too."""
        house = self.house()
        alice, bob = self.member(house, "alice"), self.member(house, "bob")
        number, position = alice.welcome.session, alice.welcome.authextra["position"]
        alice.cut()
        for options in (
            {"exclude": [number]},
            {"exclude_authid": ["alice"]},
            {"eligible_authid": ["bob"]},
            {"eligible": [number + 1]},
            {"eligible": [number]},
        ):
            bob.publish("room.lobby.message", data=list(options), options=options)
        back = self.back(alice, position)
        back.subscribe("room.lobby.message")
        self.assertEqual([payload["data"] for payload in back.heard()], [["eligible"]])
