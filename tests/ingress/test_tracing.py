"""Tests of tracing a user by HTTP: what is asked and answered, by whom, and how many at a time."""

from __future__ import annotations

import json
from typing import Any

from realtime.api_keys import ApiKey, digest
from realtime.ingress.http import Api
from realtime.ingress.tracing import MAX_SECONDS, SECONDS, Tracing
from realtime.pace import Pace
from realtime.traces import MAX_TRACES

from ..house import HouseCase
from .exchange import Answer, Exchange

KEY = "the key of the api"


class TracingTests(HouseCase):
    def setUp(self) -> None:
        self.at = self.house()
        node = self.at.node
        self.told: list[tuple[str, str, str]] = []
        security: Any = self
        self.node = node
        api = Api(
            keys=node.guard.policy.api_keys,
            security=security,
            verbs=node.verbs,
            document=dict,
            operators=Tracing(node.traces, node.guard.trust, security, self.at.wall).routes(),
            pace=Pace(self.at.clock),
        )
        self.exchange = Exchange(api.resource, self.at.clock)

    def tell(self, what: str, *, user: str = "", address: str = "", reason: str = "") -> None:
        """What the security log is told."""
        self.told.append((what, user, reason))

    def ask(self, method: str, path: str, body: Any = None, key: str = KEY) -> Answer:
        text = None if body is None else json.dumps(body).encode()
        return self.exchange.ask(method, f"/v1/{path}", {"Authorization": f"Bearer {key}"}, text)

    def code(self, answer: Answer) -> tuple[int, str]:
        return answer.status, answer.json["error"]["code"]

    def test_trace(self) -> None:
        """A user is traced for a while, which is told; again means longer; lifted once."""
        now = self.at.wall()
        answer = self.ask("PUT", "users/alice/trace")
        self.assertEqual(answer.json, {"traced": True, "until": round((now + SECONDS) * 1000)})
        self.ask("PUT", "users/a%2Fb@example.com/trace", {"seconds": 5})
        until = round((now + 60) * 1000)
        self.assertEqual(self.ask("PUT", "users/alice/trace", {"seconds": 60}).json["until"], until)
        self.assertEqual(
            self.ask("GET", "traces").json,
            {
                "traces": [
                    {"userId": "a/b@example.com", "until": round((now + 5) * 1000)},
                    {"userId": "alice", "until": until},
                ]
            },
        )
        self.at.clock.advance(6)
        self.assertEqual([one["userId"] for one in self.ask("GET", "traces").json["traces"]], ["alice"])
        for lifted in (True, False):
            self.assertEqual(self.ask("DELETE", "users/alice/trace").json, {"lifted": lifted})
        self.assertEqual(
            self.told,
            [
                ("traced", "alice", "for 600 s, by API_KEY"),
                ("traced", "a/b@example.com", "for 5 s, by API_KEY"),
                ("traced", "alice", "for 60 s, by API_KEY"),
                ("untraced", "alice", "by API_KEY"),
                ("untraced", "alice", "by API_KEY"),
            ],
        )

    def test_refused(self) -> None:
        for body in ([], {"seconds": 0}, {"seconds": MAX_SECONDS + 1}, {"seconds": "5"}, {"second": 5}):
            refused = self.code(self.ask("PUT", "users/alice/trace", body))
            self.assertEqual(refused, (400, "message.invalid"), body)
        for method in ("PUT", "DELETE"):
            refused = self.code(self.ask(method, "users/a%20b/trace"))
            self.assertEqual(refused, (400, "message.invalid"))
        self.assertEqual(self.ask("GET", "traces").json, {"traces": []})

    def test_scope(self) -> None:
        """It takes the scope that may end sessions."""
        reader = ApiKey("reader", digest("r" * 32), scopes=frozenset({"read"}))
        self.node.guard.policy.api_keys.replace([reader])
        for method, path in (
            ("GET", "traces"),
            ("PUT", "users/alice/trace"),
            ("DELETE", "users/alice/trace"),
        ):
            self.assertEqual(self.code(self.ask(method, path, key="r" * 32)), (403, "api.forbidden"))

    def test_bounded(self) -> None:
        """So many users at a time; who is traced already may be traced for longer."""
        for number in range(MAX_TRACES):
            self.assertEqual(self.ask("PUT", f"users/u{number}/trace").status, 200)
        self.assertEqual(self.code(self.ask("PUT", "users/alice/trace")), (409, "trace.limit"))
        self.assertEqual(self.ask("PUT", "users/u3/trace").status, 200)
        self.ask("DELETE", "users/u3/trace")
        self.assertEqual(self.ask("PUT", "users/alice/trace").status, 200)
