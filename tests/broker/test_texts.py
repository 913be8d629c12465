"""Publications as they travel through Redis: whatever they have is there again."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime.broker.texts import head_of, parse
from realtime.messages import Audience, Position, Publication, Sequence


class TextTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        for audience in (
            Audience(everyone=True),
            Audience(rooms=frozenset({"a", "b"}), except_users=frozenset({"u"})),
            Audience(users=frozenset({"u"}), except_connections=frozenset({"c"})),
            Audience(rooms=frozenset({"a"}), except_sessions=frozenset({1, 2**53})),
            Audience(rooms=frozenset({"a"}), only_sessions=frozenset(), only_users=frozenset({"ü"})),
            Audience(rooms=frozenset({"a"}), only_sessions=frozenset({5})),
        ):
            for publisher in (None, ("user", "connection")):
                made = Publication(
                    "room:message",
                    b'{"text":"x\\n"}',
                    audience,
                    "id",
                    5,
                    history=True,
                    binary=True,
                    splice=("id",),
                    position=Position(3, "name.1"),
                    sequence=Sequence("name", 2, 7),
                    publisher=publisher,
                    loss="latest",
                    expires=9,
                )
                text = b"7 3 1 name 2\n" + head_of(made) + b"\n" + made.data
                self.assertEqual(parse(text), made)
