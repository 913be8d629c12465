"""Spam: how much what a user sends looks like it, as a score that becomes less by itself.

What counts, and how much, is the operator's to say (``[spam]`` in the configuration file). The scores
are this node's own.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict, deque
from typing import Final

from .config_file import SpamRule
from .errors import SpamRefused
from .folding import fold

#: Users whose score is kept, at most; who was silent longest is forgotten.
MAX_USERS: Final = 50_000

#: Texts, and rooms, of a user that are remembered.
REMEMBERED: Final = 8

#: Characters of a text by which a repetition is known.
_COMPARED: Final = 512

_LINK: Final = re.compile(
    r"(?:https?://|www\.)[^\s]|\b[a-z0-9-]{1,63}\.(?:com|net|org|info|xyz|top|ru|cn|io|me|ly)\b"
)
_SPACE: Final = re.compile(r"\W+")


class _Sender:
    """What is remembered of one user."""

    __slots__ = ("at", "rooms", "score", "texts")

    def __init__(self, now: float) -> None:
        self.score = 0.0
        self.at = now
        self.texts: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)
        self.rooms: deque[str] = deque(maxlen=REMEMBERED)


class Spam:
    """Scores what users send."""

    def __init__(self, rule: SpamRule) -> None:
        self.rule = rule
        self._senders: OrderedDict[str, _Sender] = OrderedDict()

    def __len__(self) -> int:
        return len(self._senders)

    def check(self, user: str, room: str, text: str, now: float) -> None:
        """Count a message of a user.

        A message that is refused counts too, up to twice the threshold: who goes on waits longer.

        :raises SpamRefused: the user's score is too high; with the seconds until it is not.
        """
        rule = self.rule
        if not rule.enabled:
            return
        sender = self._sender(user, now)
        half_life = rule.half_life_ms / 1000
        score = sender.score * 0.5 ** ((now - sender.at) / half_life)
        score += self._weight(sender, room, text, now)
        sender.at = now
        sender.score = min(score, 2 * rule.threshold + 1)
        if score > rule.threshold:
            wait = half_life * math.log2(sender.score / max(rule.threshold - rule.message, 1e-9))
            raise SpamRefused(retry_after=max(wait, 0.001))

    def _sender(self, user: str, now: float) -> _Sender:
        sender = self._senders.get(user)
        if sender is None:
            sender = self._senders[user] = _Sender(now)
            if len(self._senders) > MAX_USERS:
                self._senders.popitem(last=False)
        self._senders.move_to_end(user)
        return sender

    def _weight(self, sender: _Sender, room: str, text: str, now: float) -> float:
        """What one message adds: repeats of what was said, links, and rooms not spoken in just now."""
        since = now - self.rule.half_life_ms / 1000
        rule = self.rule
        weight = rule.message
        folded = fold(text).text
        said = hash(_SPACE.sub("", folded[:_COMPARED]))
        weight += rule.repeat * sum(1 for text, at in sender.texts if text == said and at > since)
        weight += rule.link * sum(1 for _ in _LINK.finditer(folded))
        if sender.rooms and room not in sender.rooms:
            weight += rule.room
        sender.texts.append((said, now))
        sender.rooms.append(room)
        return weight
