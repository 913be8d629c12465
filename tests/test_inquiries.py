"""Tests of what nodes ask each other for operators: who answers, who is waited for, what is bounded."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime import signals
from realtime.errors import BrokerUnavailable, NotFound, TooManyConnections
from realtime.inquiries import MAX_QUESTIONS, PATIENCE, Arguments, Inquiries

T = TypeVar("T")


class Wire:
    """The signals of a bus: each comes to all who are on it when it is passed on."""

    def __init__(self) -> None:
        self.nodes: list[Inquiries] = []
        self.sent: list[tuple[str, bytes]] = []
        self.away = False

    def signal(self, name: str, data: bytes) -> Deferred[None]:
        if self.away:
            return fail(BrokerUnavailable())
        self.sent.append((name, data))
        return succeed(None)

    def pass_on(self) -> None:
        while self.sent:
            signal = signals.decode(*self.sent.pop(0))
            assert signal is not None
            for node in self.nodes:
                (node.asked if isinstance(signal, signals.Asked) else node.told)(signal)


class InquiryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.first, self.second = self.node("n1"), self.node("n2")

    def node(self, name: str, alone: bool = False) -> Inquiries:
        def who(arguments: Arguments) -> object:
            return {"node": name, **arguments}

        answers = {
            "who": who,
            "nothing": lambda arguments: None,
            "much": lambda arguments: "x" * 600_000,
            "faulty": lambda arguments: arguments["missing"],
        }
        node = Inquiries(self.clock, name, self.wire, answers, alone=alone)  # type: ignore[arg-type]
        self.wire.nodes.append(node)
        return node

    def begun(self, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        return Deferred.fromCoroutine(work)

    def shown(self, done: Deferred[Any]) -> dict[str, Any]:
        return {node: json.loads(bytes(body)) for node, body in self.successResultOf(done).items()}

    def test_all(self) -> None:
        """The first time there is time for all to answer; then it is over with those who are known."""
        asked = self.begun(self.first.all("who", {"a": "b"}))
        self.wire.pass_on()
        self.assertNoResult(asked)
        self.clock.advance(PATIENCE)
        both = {"n1": {"node": "n1", "a": "b"}, "n2": {"node": "n2", "a": "b"}}
        self.assertEqual(self.shown(asked), both)
        again = self.begun(self.first.all("who", {"a": "b"}))
        self.assertNoResult(again)
        self.wire.pass_on()
        self.assertEqual(self.shown(again), both)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_else(self) -> None:
        """With a bus and nobody else on it, only the first question takes its time."""
        self.wire.nodes.remove(self.second)
        asked = self.begun(self.first.all("who", {}))
        self.wire.pass_on()
        self.assertNoResult(asked)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.shown(asked), {"n1": {"node": "n1"}})
        again = self.begun(self.first.all("who", {}))
        self.wire.pass_on()
        self.assertEqual(self.shown(again), {"n1": {"node": "n1"}})

    def test_late_node(self) -> None:
        """A node that is silent is waited for no longer; one that came meanwhile is known then."""
        asked = self.begun(self.first.all("who", {}))
        self.wire.pass_on()
        self.clock.advance(PATIENCE)
        self.successResultOf(asked)
        self.wire.nodes.remove(self.second)
        self.node("n3")
        asked = self.begun(self.first.all("who", {}))
        self.wire.pass_on()
        self.clock.advance(PATIENCE)
        self.assertEqual(set(self.shown(asked)), {"n1", "n3"})

    def test_one(self) -> None:
        """One node is asked, this one without the bus; who is not there or has nothing is not found."""
        for name in ("", "n1"):
            own = self.successResultOf(self.begun(self.first.one(name, "who", {})))
            self.assertEqual(json.loads(bytes(own)), {"node": "n1"})
        self.assertEqual(self.wire.sent, [])
        other = self.begun(self.first.one("n2", "who", {}))
        self.wire.pass_on()
        self.assertEqual(json.loads(bytes(self.successResultOf(other))), {"node": "n2"})
        for node, what in (("n1", "nothing"), ("n2", "nothing"), ("n2", "unheard of"), ("n2", "much")):
            asked = self.begun(self.first.one(node, what, {}))
            self.wire.pass_on()
            self.failureResultOf(asked, NotFound)
        nobody = self.begun(self.first.one("n9", "who", {}))
        self.wire.pass_on()
        self.assertNoResult(nobody)
        self.clock.advance(PATIENCE)
        self.failureResultOf(nobody, NotFound)

    def test_fault(self) -> None:
        """What can't be answered is no answer, here and there; it is logged, and harms nobody."""
        for node in ("n1", "n2"):
            asked = self.begun(self.first.one(node, "faulty", {}))
            self.wire.pass_on()
            self.failureResultOf(asked, NotFound)
            self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_alone(self) -> None:
        """Where there can be no other node, the bus is not asked."""
        alone = self.node("n5", alone=True)
        self.assertEqual(self.shown(self.begun(alone.all("who", {}))), {"n5": {"node": "n5"}})
        self.failureResultOf(self.begun(alone.one("n1", "who", {})), NotFound)
        self.assertEqual(self.wire.sent, [])

    def test_away(self) -> None:
        """While the bus is away a node answers for itself."""
        self.wire.away = True
        self.assertEqual(self.shown(self.begun(self.first.all("who", {}))), {"n1": {"node": "n1"}})
        self.failureResultOf(self.begun(self.first.one("n2", "who", {})), BrokerUnavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """So many questions are under way; one more is refused, and they end."""
        asked = [self.begun(self.first.one("n9", "who", {})) for _ in range(MAX_QUESTIONS)]
        self.failureResultOf(self.begun(self.first.one("n9", "who", {})), TooManyConnections)
        self.clock.advance(PATIENCE)
        for one in asked:
            self.failureResultOf(one, NotFound)
        late = self.begun(self.first.one("n2", "who", {}))
        self.wire.pass_on()
        self.successResultOf(late)
