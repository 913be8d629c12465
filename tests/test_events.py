"""Tests for realtime.events."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime import events
from realtime.errors import InvalidMessage
from realtime.events import CLIENT_EVENTS, SERVER_EVENTS, Loss, Payload, decode, loss_of
from realtime.names import valid_event

from .generated import unhurried


class CatalogueTests(SynchronousTestCase):
    def test_names_are_event_names(self) -> None:
        for name in (*SERVER_EVENTS, *CLIENT_EVENTS):
            self.assertTrue(valid_event(name), name)

    def test_loss_classes(self) -> None:
        for name, loss in {
            "booking:confirmed": Loss.MUST,
            "payment:failed": Loss.MUST,
            "notification:new": Loss.MUST,
            "room:message": Loss.MUST,
            "queue:proceed": Loss.MUST,
            "ticket:sold": Loss.LATEST,
            "queue:position": Loss.LATEST,
            "room:typing": Loss.DROP,
        }.items():
            self.assertIs(loss_of(name), loss, name)

    def test_what_is_not_in_the_catalogue_is_not_lost(self) -> None:
        self.assertIs(loss_of("booking:archived"), Loss.MUST)
        self.assertIs(loss_of("event:doors_open"), Loss.MUST)

    def test_every_ticket_event_is_a_counter(self) -> None:
        self.assertIs(loss_of("ticket:price"), Loss.LATEST)


class DecodeTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        accepted: list[tuple[str, bytes, dict[str, Any]]] = [
            ("auth:login", b'{"token":"t"}', {"token": "t"}),
            ("auth:token_refresh", b'{"token":"t"}', {"token": "t", "refresh_token": None}),
            ("auth:token_refresh", b'{"refreshToken":"r"}', {"token": None, "refresh_token": "r"}),
            ("auth:logout", b"{}", {"everywhere": False}),
            ("auth:logout", b'{"everywhere":true}', {"everywhere": True}),
            ("room:join", b'{"roomId":"lobby"}', {"room_id": "lobby", "position": None}),
            ("room:leave", b'{"roomId":"lobby"}', {"room_id": "lobby"}),
            (
                "room:message",
                b'{"roomId":"lobby","text":"hi","clientMessageId":"1"}',
                {"room_id": "lobby", "text": "hi", "client_message_id": "1"},
            ),
            ("room:history", b'{"roomId":"r"}', {"after": None, "before": None, "limit": None}),
            (
                "room:history",
                b'{"roomId":"r","after":0,"before":9,"limit":1000}',
                {"after": 0, "before": 9},
            ),
            ("user:typing", b'{"roomId":"r","typing":true}', {"room_id": "r", "typing": True}),
            (
                "user:presence",
                b'{"status":"busy","text":"in a call"}',
                {"status": "busy", "text": "in a call"},
            ),
            ("user:preferences", b"{}", {"muted_events": None, "muted_rooms": None}),
            (
                "user:preferences",
                b'{"mutedEvents":["ticket:sold"],"mutedRooms":["event:42"]}',
                {"muted_events": ["ticket:sold"], "muted_rooms": ["event:42"]},
            ),
        ]
        for event, data, fields in accepted:
            decoded = decode(CLIENT_EVENTS[event], data)
            for name, value in fields.items():
                self.assertEqual(getattr(decoded, name), value, (event, name))

    def test_position_of_a_join(self) -> None:
        decoded = decode(events.RoomJoin, b'{"roomId":"r","position":{"offset":7,"epoch":"e1"}}')
        assert decoded.position is not None
        self.assertEqual((decoded.position.offset, decoded.position.epoch), (7, "e1"))

    def test_unknown_fields_are_ignored(self) -> None:
        self.assertEqual(decode(events.RoomLeave, b'{"roomId":"r","x":[1]}'), events.RoomLeave("r"))

    def test_data_of_a_message_stays_raw(self) -> None:
        decoded = decode(events.RoomMessage, b'{"roomId":"r","data": {"a": [1.50]}}')
        self.assertEqual(bytes(decoded.data), b'{"a": [1.50]}')

    def test_null_data_is_no_data(self) -> None:
        decoded = decode(events.RoomMessage, b'{"roomId":"r","text":"hi","data":null}')
        self.assertEqual(bytes(decoded.data), b"")

    def test_refused(self) -> None:
        refused: list[tuple[str, bytes, str]] = [
            ("auth:login", b"{}", "token"),
            ("auth:login", b'{"token":""}', "token"),
            ("auth:login", b'{"token":"%b"}' % (b"x" * 8193), "8192"),
            ("auth:token_refresh", b"{}", "refreshToken"),
            ("auth:token_refresh", b'{"token":"a","refreshToken":"b"}', "exactly one"),
            ("room:join", b'{"roomId":42}', "roomId"),
            ("room:join", b'{"roomId":"r","position":{"offset":-1,"epoch":"e"}}', "position.offset"),
            ("room:join", b'{"roomId":"r","position":{"offset":1.5,"epoch":"e"}}', "position.offset"),
            ("room:join", b'{"roomId":"r","position":{"offset":1}}', "epoch"),
            ("room:message", b'{"roomId":"r"}', "exactly one"),
            ("room:message", b'{"roomId":"r","data":null}', "exactly one"),
            ("room:message", b'{"roomId":"r","text":"a","data":1}', "exactly one"),
            ("room:message", b'{"roomId":"r","text":""}', "text"),
            ("room:message", b'{"roomId":"r","text":"%b"}' % (b"x" * 10001), "10000"),
            ("room:message", b'{"roomId":"r","text":"a","clientMessageId":""}', "clientMessageId"),
            ("room:message", b'{"roomId":"r","text":"a","clientMessageId":"%b"}' % (b"x" * 65), "64"),
            ("room:history", b'{"roomId":"r","limit":0}', "limit"),
            ("room:history", b'{"roomId":"r","limit":1001}', "1000"),
            ("room:history", b'{"roomId":"r","after":9007199254740992}', "after"),
            ("user:typing", b'{"roomId":"r","typing":1}', "typing"),
            ("user:presence", b'{"status":"gone"}', "online, away, busy, invisible - at `$.status`"),
            ("user:presence", b'{"status":"busy","text":"%b"}' % (b"x" * 141), "140"),
            ("user:preferences", b'{"mutedEvents":[%b]}' % b",".join([b'"a:b"'] * 101), "100"),
            ("user:preferences", b'{"mutedRooms":["a b"]}', "mutedRooms"),
            ("room:leave", b"[]", "object"),
            ("room:leave", b'"r"', "object"),
            ("room:leave", b"", "not JSON"),
            ("room:leave", b'{"roomId":"r"} {}', "not JSON"),
            ("room:leave", b'{"roomId":"r","x":"\xff"}', "UTF-8"),
            ("room:leave", b'{"roomId":"r","x":' + b"[" * 32 + b"]" * 32 + b"}", "deeper"),
            ("room:leave", b'{"roomId":"r","x":' + b"[" * 99999 + b"]" * 99999 + b"}", "deeper"),
        ]
        for event, data, named in refused:
            error = self.assertRaises(InvalidMessage, decode, CLIENT_EVENTS[event], data)
            self.assertIn(named, error.message, (event, data[:60]))

    def test_a_refusal_repeats_no_value(self) -> None:
        for event, field in (
            ("auth:login", b'"token":["hunter2"]'),
            ("user:presence", b'"status":"hunter2"'),
            ("user:presence", b'"status":"x - at hunter2"'),
            ("user:preferences", b'"mutedRooms":["hunter2 "]'),
            ("room:message", b'"roomId":"hunter2"'),
        ):
            error = self.assertRaises(InvalidMessage, decode, CLIENT_EVENTS[event], b"{%b}" % field)
            self.assertNotIn("hunter2", error.message)

    @unhurried
    @given(st.sampled_from(list(CLIENT_EVENTS.values())), st.binary(max_size=60))
    def test_bytes_are_decoded_or_refused(self, payload: type[Payload], data: bytes) -> None:
        with contextlib.suppress(InvalidMessage):
            self.assertIsInstance(decode(payload, data), payload)

    @unhurried
    @given(
        st.sampled_from(list(CLIENT_EVENTS.values())),
        st.dictionaries(
            st.sampled_from(["roomId", "text", "data", "status", "typing", "limit", "position", "token"]),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False)
            | st.text()
            | st.lists(st.text()),
        ),
    )
    def test_objects_are_decoded_or_refused(self, payload: type[Payload], value: dict[str, Any]) -> None:
        with contextlib.suppress(InvalidMessage):
            self.assertIsInstance(decode(payload, json.dumps(value).encode()), payload)


class DocumentationTests(SynchronousTestCase):
    def rows(self, heading: str) -> dict[str, str]:
        """The rows of the table below a heading of docs/events.rst: first column to the rest."""
        text = (Path(__file__).parents[1] / "docs" / "events.rst").read_text()
        section = text.partition(f"\n{heading}\n---")[2].partition("\n---")[0]
        return dict(re.findall(r"^``(\w+:\w+|ack)`` +(.*)$", section, re.MULTILINE))

    def test_all_client_events_are_documented(self) -> None:
        self.assertEqual(set(self.rows("From clients")), set(CLIENT_EVENTS))

    def test_all_fields_of_client_events_are_documented(self) -> None:
        text = (Path(__file__).parents[1] / "docs" / "events.rst").read_text()
        for payload in CLIENT_EVENTS.values():
            for field in msgspec.structs.fields(payload):
                self.assertRegex(text, rf"``{field.encode_name}\??``")

    def test_all_server_events_are_documented_with_their_loss_class(self) -> None:
        documented = {name: row.split()[0] for name, row in self.rows("From the service").items()}
        self.assertEqual(documented, {name: loss.value for name, loss in SERVER_EVENTS.items()})
