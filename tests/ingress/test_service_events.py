"""Tests for realtime.ingress.service_events: verbs as events of clients, by every protocol."""

from __future__ import annotations

from typing import Any

from autobahn.wamp.message import Authenticate, Error
from twisted.trial.unittest import SynchronousTestCase

from realtime.api_keys import SCOPES
from realtime.ingress.verbs import VERBS

from ..house import House, PlainClient
from ..wampclient import SERIALIZERS, WampClient
from .requests import NOT_DONE, PUBLICATION, REFUSED, REQUESTS

SERVICE = {"scopes": [*SCOPES]}


class ServiceEventTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House(rate_limit_max_messages=5, rate_limit_max_connections=100)
        self.addCleanup(self.house.stop)

    def clients(self, **claims: Any) -> list[Any]:
        """A client of a service by each protocol."""
        socketio = self.house.client()
        socketio.connect(token=self.house.token("booking", **claims))
        plain = PlainClient(self.house)
        plain.call("auth:login", {"token": self.house.token("tickets", **claims)})
        token = self.house.token("payments", **claims)
        wamp = [WampClient(self.house, subprotocol=name) for name in SERIALIZERS]
        for client in wamp:
            client.hello()
            client.send(Authenticate(token))
        return [socketio, plain, *wamp]

    def ask(self, client: Any, verb: str, request: Any) -> tuple[str, dict[str, Any]]:
        """The code with which a verb is refused, and what it answers."""
        if isinstance(client, WampClient):
            answer = client.call(f"service.{verb}", **request)
            if isinstance(answer, Error):
                return answer.kwargs["code"], {}
            return "", answer.kwargs
        answer = client.call(f"service:{verb}", request)
        told = answer.get("data", answer) if isinstance(client, PlainClient) else answer
        if told.get("ok"):
            return "", told
        return told["error"]["code"], {}

    def test_every_verb(self) -> None:
        """Each is done, or refused with its code, whatever the protocol, past the limit of users."""
        for client in self.clients(service=SERVICE):
            for verb, request in REQUESTS.items():
                self.assertEqual(self.ask(client, verb, request)[0], NOT_DONE.get(verb, ""), verb)
            for verb, change, code in REFUSED:
                found = self.ask(client, verb, {**REQUESTS[verb], **change})[0]
                # some codecs say that such arguments are not valid
                allowed = {code, "message.invalid"} if code == "message.too_large" else {code}
                self.assertIn(found, allowed, (verb, change))
            self.assertEqual(self.ask(client, "dance", {})[0], "event.unknown")

    def test_published(self) -> None:
        """Under one idempotency key by both protocols, and as over HTTP: one delivery."""
        alice = self.house.client("alice")
        request = {**PUBLICATION, "messageId": "m-1"}
        clients = self.clients(service=SERVICE)
        (code, first), *others = [self.ask(client, "publish", request) for client in clients]
        self.assertEqual(code, "")
        for code, again in others:
            self.assertEqual((code, again.get("repeated")), ("", True))
            # plain JSON has an id of its own
            self.assertEqual(again.get("messageId") or again["id"], first["id"])
        self.assertTrue(self.house.publish("system:news", {}, "m-1").repeated)
        self.assertEqual(len(alice.heard("system:news")), 1)

    def test_by_the_name_of_a_channel(self) -> None:
        """An event with a channel's name, and a topic of WAMP, are published as by ``service:publish``."""
        alice = self.house.client("alice")
        other = WampClient(self.house, "alice")
        other.subscribe("booking.confirmed")
        socketio, plain, *wamp = self.clients(service={"scopes": ["publish"], "channels": ["booking:*"]})
        for client in (socketio, plain):
            answer = client.call("booking:confirmed", {"userId": "alice", "n": 1})
            self.assertTrue(answer.get("data", answer)["ok"], answer)
            (event,) = other.events()
        for client in wamp:
            client.subscribe("booking.confirmed")
            answer = client.publish("booking.confirmed", userId="alice", n=1)
            (event,) = other.events()
            self.assertEqual((answer.publication, event.kwargs["n"]), (event.publication, 1))
            self.assertIsNone(client.publish("booking.confirmed", acknowledge=False, userId="alice", n=2))
            self.assertEqual([payload["n"] for payload in other.heard()], [2])
        self.assertEqual(len(alice.heard("booking:confirmed")), 2 + 2 * len(wamp))
        for client in (plain, wamp[0]):
            for channel, code in [
                ("booking:confirmed", "publish.no_owner"),
                ("booking:CONFIRMED!", "publish.channel_unknown"),
                ("payment:failed", "api.forbidden"),
            ]:
                self.assertEqual(self.tell(client, channel, {}), code)

    def test_who_may_not(self) -> None:
        """Without the claim, or its scope, it is refused, whatever the protocol."""
        for claims in ({}, {"service": {"scopes": ["read"]}}):
            socketio, plain, *wamp = self.clients(**claims)
            for client in (socketio, plain):
                refused = client.call("booking:confirmed", {"userId": "alice"})
                code = refused.get("data", refused)["error"]["code"]
                self.assertEqual(code, "api.forbidden" if claims else "event.unknown")
            for client in wamp:
                refused = client.publish("booking.confirmed", userId="alice")
                self.assertEqual(refused.error, "wamp.error.not_authorized")
                self.assertEqual(refused.kwargs["code"], "api.forbidden")

    def test_who_publishes_is_left_out(self) -> None:
        """As WAMP has it, unless ``exclude_me`` is false."""
        *_, client = self.clients(service=SERVICE)
        client.subscribe("system.news")
        bob = self.house.client("bob")
        client.publish("system.news", n=1)
        client.publish("system.news", n=2, options={"exclude_me": False})
        self.assertEqual([payload["n"] for payload in client.heard()], [2])
        self.assertEqual([payload["n"] for payload in bob.heard("system:news")], [1, 2])
        refused = client.publish("system.news", n=3, options={"eligible_authid": ["bob"]})
        self.assertEqual(refused.kwargs["code"], "message.invalid")

    def tell(self, client: Any, channel: str, data: Any) -> str:
        """The code with which publishing is refused."""
        if isinstance(client, WampClient):
            return client.publish(channel.replace(":", "."), **data).kwargs["code"]
        return client.call(channel, data)["error"]["code"]

    def test_users_may_not(self) -> None:
        for client in self.clients():
            self.assertEqual(self.ask(client, "publish", PUBLICATION)[0], "api.forbidden")

    def test_scopes_and_channels(self) -> None:
        for scope in SCOPES:
            for client in self.clients(service={"scopes": [scope], "channels": ["booking:*"]}):
                for name, verb in VERBS.items():
                    if verb.scope != scope:
                        found = self.ask(client, name, REQUESTS[name])[0]
                        self.assertEqual(found, "api.forbidden", name)
                if scope == "publish":
                    self.assertEqual(self.ask(client, "publish", PUBLICATION)[0], "api.forbidden")
                    booking = {"channel": "booking:created", "data": {"userId": "alice"}}
                    self.assertEqual(self.ask(client, "publish", booking)[0], "")

    def test_bad_claims(self) -> None:
        """A token whose claim is not one opens nothing."""
        for claim in (True, "publish", {}, {"scopes": []}, {"scopes": ["all"]}, {"scopes": [1]}):
            client = self.house.client()
            client.connect(token=self.house.token("booking", service=claim))
            self.assertIn("auth.token_invalid", client.answer)

    def test_before_login(self) -> None:
        plain = PlainClient(self.house)
        self.assertEqual(self.ask(plain, "info", {})[0], "auth.required")
