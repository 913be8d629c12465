"""Tests for realtime.wire.socketio_namespaces."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import ProtocolError
from realtime.wire.socketio_namespaces import (
    MAX_NAMESPACES,
    Acknowledged,
    Arrival,
    Asked,
    Emitted,
    Left,
    Namespaces,
    Unknown,
)

P0 = '{"_placeholder":true,"num":0}'


def machine(*connected: str) -> Namespaces:
    """One that knows `/` and `/custom`, with these connected."""
    namespaces = Namespaces({"/", "/custom"}, 1000)
    for name in connected:
        namespaces.receive(f"0{name},")
        namespaces.accept(name)
    return namespaces


class ConnectTests(SynchronousTestCase):
    def test_asks_with_the_auth_as_it_came(self) -> None:
        namespaces = machine()
        self.assertEqual(namespaces.receive("0"), Asked("/", b"{}"))
        self.assertEqual(
            namespaces.receive('0/custom,{"t" : "ж"}'), Asked("/custom", '{"t" : "ж"}'.encode())
        )

    def test_connected_only_once_accepted(self) -> None:
        namespaces = machine()
        namespaces.receive("0")
        self.assertEqual(namespaces.connected, frozenset())
        namespaces.accept("/")
        self.assertEqual(namespaces.connected, {"/"})

    def test_connect_again(self) -> None:
        for name in ("/", "/custom"):
            self.assertRaises(ProtocolError, machine(name).receive, f"0{name},")

    def test_connect_while_asked(self) -> None:
        namespaces = machine()
        namespaces.receive("0")
        self.assertRaises(ProtocolError, namespaces.receive, "0")

    def test_unknown_namespace(self) -> None:
        namespaces = machine("/")
        arrival = namespaces.receive('0/random,{"a":1}')
        assert isinstance(arrival, Unknown)
        self.assertEqual(arrival.namespace, "/random")
        self.assertEqual(arrival.answer.text, b'44/random,{"message":"Invalid namespace"}')
        self.assertEqual(namespaces.connected, {"/"})
        self.assertRaises(ProtocolError, namespaces.receive, '2/random,["a"]')

    def test_unknown_root(self) -> None:
        arrival = Namespaces({"/custom"}, 1000).receive("0")
        assert isinstance(arrival, Unknown)
        self.assertEqual(arrival.answer.text, b'44{"message":"Invalid namespace"}')

    def test_asking_in_vain_is_bounded(self) -> None:
        namespaces = machine("/")
        for _ in range(MAX_NAMESPACES - 1):
            self.assertIsInstance(namespaces.receive("0/random"), Unknown)
        self.assertRaises(ProtocolError, namespaces.receive, "0/random")

    def test_namespaces_are_bounded(self) -> None:
        names = [f"/{n}" for n in range(MAX_NAMESPACES + 1)]
        namespaces = Namespaces(names, 1000)
        for name in names[:-1]:
            namespaces.receive(f"0{name}")
            namespaces.accept(name)
        self.assertRaises(ProtocolError, namespaces.receive, f"0{names[-1]}")

    def test_leaving_makes_room(self) -> None:
        namespaces = machine()
        for _ in range(3 * MAX_NAMESPACES):
            self.assertEqual(namespaces.receive("0"), Asked("/", b"{}"))
            namespaces.accept("/")
            self.assertEqual(namespaces.receive("1"), Left("/"))

    def test_removed_may_ask_again(self) -> None:
        namespaces = machine()
        namespaces.receive("0")
        namespaces.remove("/")
        self.assertEqual(namespaces.receive("0"), Asked("/", b"{}"))

    def test_to_remove_what_is_not_there_is_harmless(self) -> None:
        namespaces = machine("/")
        namespaces.remove("/custom")
        self.assertEqual(namespaces.connected, {"/"})


class LegalityTests(SynchronousTestCase):
    def test_nothing_but_connect_before_connect(self) -> None:
        for frame in ['2["a"]', "31[]", "1", '4{"message":"x"}', '2/custom,["a"]', "1/custom"]:
            self.assertRaises(ProtocolError, machine().receive, frame)

    def test_nothing_while_the_answer_is_awaited(self) -> None:
        for frame in ['2["a"]', "31[]", "1"]:
            namespaces = machine()
            namespaces.receive("0")
            self.assertRaises(ProtocolError, namespaces.receive, frame)

    def test_nothing_in_a_namespace_that_is_not_connected(self) -> None:
        for frame in ['2/custom,["a"]', "3/custom,1[]", "1/custom", '2/other,["a"]']:
            self.assertRaises(ProtocolError, machine("/").receive, frame)

    def test_binary_too(self) -> None:
        namespaces = machine()
        namespaces.receive(f'51-["a",{P0}]')
        self.assertRaises(ProtocolError, namespaces.receive, b"x")

    def test_no_connect_error_from_a_client(self) -> None:
        self.assertRaises(ProtocolError, machine("/").receive, '4{"message":"x"}')

    def test_nothing_after_disconnect(self) -> None:
        for frame in ['2["a"]', "31[]", "1"]:
            namespaces = machine("/", "/custom")
            namespaces.receive("1")
            self.assertRaises(ProtocolError, namespaces.receive, frame)

    def test_nothing_after_the_server_has_removed_it(self) -> None:
        namespaces = machine("/")
        namespaces.remove("/")
        self.assertRaises(ProtocolError, namespaces.receive, '2["a"]')


class ArrivalTests(SynchronousTestCase):
    def arrival(self, *frames: str | bytes) -> Arrival | None:
        namespaces = machine("/", "/custom")
        *before, last = (namespaces.receive(frame) for frame in frames)
        self.assertEqual(before, [None] * len(before))
        return last

    def test_event(self) -> None:
        arrival = self.arrival('2/custom,5["a",1,{"b":2}]')
        assert isinstance(arrival, Emitted)
        self.assertEqual((arrival.namespace, arrival.name, arrival.ack), ("/custom", "a", 5))
        self.assertEqual([bytes(value) for value in arrival.arguments], [b"1", b'{"b":2}'])
        self.assertEqual(arrival.attachments, ())

    def test_binary_event(self) -> None:
        arrival = self.arrival(f'51-["a",{P0}]', b"\x00")
        assert isinstance(arrival, Emitted)
        self.assertEqual([bytes(value) for value in arrival.arguments], [P0.encode()])
        self.assertEqual(arrival.attachments, (b"\x00",))

    def test_acknowledgement(self) -> None:
        arrival = self.arrival("312[1]")
        assert isinstance(arrival, Acknowledged)
        self.assertEqual((arrival.namespace, arrival.ack), ("/", 12))
        self.assertEqual([bytes(value) for value in arrival.arguments], [b"1"])

    def test_disconnect_leaves_the_others(self) -> None:
        namespaces = machine("/", "/custom")
        self.assertEqual(namespaces.receive("1/custom"), Left("/custom"))
        self.assertEqual(namespaces.connected, {"/"})
        self.assertIsInstance(namespaces.receive('2["a"]'), Emitted)
