"""Realm: what the WAMP sessions of a node share: subscriptions, and frames that are made once."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any, Final

from ..ids import session_number
from ..messages import Publication, Published
from . import wamp_topics
from .session import NOTHING, Frame, Several
from .wamp_codecs import Codec
from .wamp_topics import Interest, Interests, Subscription, Subscriptions

#: Ids of publications that are not logged begin here: no place in a sequence is so large.
UNLOGGED: Final = 2**52


class Realm:
    """What the WAMP sessions of this node share: their subscriptions, and each publication's frames.

    :param name: the one realm that clients join.
    :param max_held: bytes of publications kept for a session that was taken up, until it has
        subscribed again.
    """

    def __init__(self, name: str, max_held: int) -> None:
        self.name = name
        self.max_held = max_held
        self.subscriptions = Subscriptions()
        self.unlogged = itertools.count(UNLOGGED)
        self._last: Matter | None = None

    def matter(self, publication: Publication) -> Matter:
        """What is said of a publication: made once, as long as no other comes between."""
        last = self._last
        if last is None or last.publication is not publication:
            last = self._last = Matter(publication)
        return last

    def encoder(self, codec: Codec) -> Encoder:
        """The frames of one serializer."""
        return Encoder(self, codec)


class Matter:
    """What all serializers say of one publication.

    :ivar number: its id.
    """

    __slots__ = ("_payload", "number", "publication", "topic")

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self.topic = wamp_topics.topic_of(publication)
        self.number = publication_number(publication)
        self._payload: bytes | None = None

    @property
    def payload(self) -> bytes:
        """See `Publication.payload`; asked for where somebody has subscribed to it."""
        made = self._payload
        if made is None:
            made = self._payload = self.publication.payload()
        return made


class Encoder:
    """The frames of one publication after the other, each made once for all that get the same."""

    def __init__(self, realm: Realm, codec: Codec) -> None:
        self.realm = realm
        self.codec = codec
        self.interests = Interests()
        self._matter: Matter | None = None
        self._body: bytes | None = None
        self._frames: dict[tuple[tuple[Subscription, ...], str | None], Frame] = {}

    def frame(self, publication: Publication, interest: Interest) -> Frame:
        """The EVENTs of a publication for those who share an interest."""
        matter = self._matter
        if matter is None or matter.publication is not publication:
            matter = self._matter = self.realm.matter(publication)
            self._body = None
            self._frames = {}
        personal = wamp_topics.personal_topic(publication, interest.user)
        matching = interest.matching(matter.topic, personal)
        if not matching:
            return NOTHING
        # One pattern may match the personal topics of several users.
        key = (matching, personal)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self._encode(matter, matching, personal)
        return frame

    def _encode(self, matter: Matter, matching: tuple[Subscription, ...], personal: str | None) -> Frame:
        if self._body is None:
            self._body = self.codec.body(matter.payload)
        details: dict[str, Any] = {}
        if matter.publication.publisher is not None:
            user, connection = matter.publication.publisher
            details = {"publisher": session_number(connection), "publisher_authid": user}
        if matter.publication.receipt:
            details["receipt"] = True
        return self.events(matter.topic, personal, matter.number, matching, self._body, details)

    def events(
        self,
        topic: str,
        personal: str | None,
        number: int,
        matching: tuple[Subscription, ...],
        body: bytes,
        details: dict[str, Any] | None = None,
    ) -> Frame:
        """One EVENT for each subscription; `NOTHING` if there is none."""
        frames = []
        for one in matching:
            told = dict(details or {})
            if one.match != wamp_topics.EXACT:
                told["topic"] = topic if personal is None or one.matches(topic) else personal
            frames.append(self.codec.event(one.id, number, told, body))
        if not frames:
            return NOTHING
        return frames[0] if len(frames) == 1 else Several(frames)


def publication_number(publication: Publication | Published) -> int:
    """The id of a publication: its number in the sequence, or else one made of its own id."""
    if publication.sequence is not None:
        return publication.sequence.number
    digest = hashlib.blake2b(publication.id.encode(), digest_size=8).digest()
    return UNLOGGED + int.from_bytes(digest, "big") % UNLOGGED
