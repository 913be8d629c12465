"""What can go wrong with a link to Redis: error replies by what they call for, words, counters.

Why a link is not up is one of these words:

=====================  ==============================================================================
``connecting``         it has just begun
``refused``            nobody listens there
``unknown_host``       the name is not known
``timeout``            no answer in time: frozen, half-open, or too slow
``lost``               the connection was closed
``tls``                the certificate, or TLS itself, was refused
``denied``             wrong password, no password, or a command that the user may not use
``full``               the server has as many clients as it takes
``loading``            the server loads its data
``replica``            it is a replica, or has become one
``moved``              the primary is another one now
``sentinel``           ``redis://`` leads to a Sentinel
``cluster``            ``redis://`` leads to a node of a Cluster
``no_cluster``         ``redis+cluster://`` leads to a server that is no node of one
``no_sentinel``        no Sentinel answers
``unknown_service``    the Sentinels don't know the service
``no_node``            no node of the Cluster answers
``unserved``           no node serves the slot
``protocol``           what answers does not speak Redis' protocol
``error``              another error reply; the log has it
``failed``             a bug; the log has it
``stopped``            it was stopped
=====================  ==============================================================================
"""

from __future__ import annotations

from typing import Final, Protocol

from OpenSSL import SSL
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout

from .redis_locate import Unlocated, WrongServer
from .redis_protocol import RedisError

#: Error replies that say that the server can't do it now. The command has not run.
TEMPORARY: Final = frozenset(
    (
        *("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM"),
        *("READONLY", "TRYAGAIN", "UNBLOCKED"),
    )
)
#: Those after which another server, or another password, is looked for.
FATAL: Final = frozenset(("LOADING", "MASTERDOWN", "NOAUTH", "READONLY", "UNBLOCKED"))
#: Kinds of error that have a name of their own in the counters; the rest is ``other``.
KINDS: Final = TEMPORARY | {
    *("ASK", "ERR", "MOVED", "NOAUTH", "NOPERM", "NOSCRIPT", "WRONGPASS", "WRONGTYPE"),
    *("other", "timeout"),
}


class LinkCounters(Protocol):
    """What a link tells of itself. `link` is its name; `kind` is one of `KINDS`."""

    def commands(self, link: str, count: int) -> None:
        """So many more commands were sent."""

    def error(self, link: str, kind: str) -> None:
        """A command was answered with an error, or not in time."""

    def connected(self, link: str) -> None:
        """It came up."""

    def disconnected(self, link: str) -> None:
        """It is up no more."""


class Uncounted:
    """Counts nothing."""

    def commands(self, link: str, count: int) -> None:
        pass

    def error(self, link: str, kind: str) -> None:
        pass

    def connected(self, link: str) -> None:
        pass

    def disconnected(self, link: str) -> None:
        pass


class Lost(Exception):
    """A connection ended before it was up.

    :ivar why: in a word.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


#: Words for what can go wrong before a link is up.
_WORDS: Final = {
    "LOADING": "loading",
    "MASTERDOWN": "replica",
    "NOAUTH": "denied",
    "NOPERM": "denied",
    "WRONGPASS": "denied",
}


def word(failed: BaseException) -> str:
    """Why a connection could not be made, in a word of a closed set."""
    if isinstance(failed, RedisError):
        if "max number of clients" in failed.text:
            return "full"
        return "denied" if "AUTH" in failed.text else _WORDS.get(failed.kind, "error")
    if isinstance(failed, Unlocated | WrongServer | Lost):
        return failed.why
    for kind, told in (
        (DNSLookupError, "unknown_host"),
        (ConnectTimeout, "timeout"),
        (ConnectError, "refused"),
        (SSL.Error, "tls"),
        (ConnectionClosed, "lost"),
    ):
        if isinstance(failed, kind):
            return told
    return "failed"
