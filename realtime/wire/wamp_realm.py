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

    def encoder(self, codec: Codec) -> Encoder:
        """The frames of one serializer."""
        return Encoder(self, codec)


class Encoder:
    """The frames of one publication after the other, each made once for all that get the same."""

    def __init__(self, realm: Realm, codec: Codec) -> None:
        self.realm = realm
        self.codec = codec
        self.interests = Interests()
        self._publication: Publication | None = None
        self._topic = ""
        self._number = 0
        self._body: bytes | None = None
        self._frames: dict[tuple[tuple[Subscription, ...], str | None], Frame] = {}

    def frame(self, publication: Publication, interest: Interest) -> Frame:
        """The EVENTs of a publication for those who share an interest."""
        if publication is not self._publication:
            self._publication = publication
            self._topic = wamp_topics.topic_of(publication)
            self._number = publication_number(publication)
            self._body = None
            self._frames = {}
        personal = wamp_topics.personal_topic(publication, interest.user)
        matching = interest.matching(self._topic, personal)
        if not matching:
            return NOTHING
        # One pattern may match the personal topics of several users.
        key = (matching, personal)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self._encode(publication, matching, personal)
        return frame

    def _encode(
        self, publication: Publication, matching: tuple[Subscription, ...], personal: str | None
    ) -> Frame:
        if self._body is None:
            self._body = self.codec.body(publication.payload())
        details: dict[str, Any] = {}
        if publication.publisher is not None:
            user, connection = publication.publisher
            details = {"publisher": session_number(connection), "publisher_authid": user}
        if publication.receipt:
            details["receipt"] = True
        return self.events(self._topic, personal, self._number, matching, self._body, details)

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
