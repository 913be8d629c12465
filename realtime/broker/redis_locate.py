"""Where Redis is: places, how one is connected, and the interface of who finds the right one.

`FixedLocator` knows its place. Others are in `sentinel` and `cluster`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory

from .redis_protocol import RedisConnection, RedisError
from .redis_tls import Strict, trusted

#: Seconds, the longest time between two tries to connect: all must be well two seconds after Redis is back.
LAST_DELAY: Final = 1.0
#: Seconds that connecting may take.
CONNECT_TIMEOUT: Final = 2.0


@dataclass(frozen=True)
class Place:
    """One server.

    :ivar path: its unix socket; then host and port mean nothing.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or (
            f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        )


class Unlocated(Exception):
    """Nobody could say where the server is.

    :ivar why: a word for it.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class WrongServer(Exception):
    """The server that was connected is not the one that was wanted.

    :ivar why: in a word what it is: ``replica``.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Locator(Protocol):
    """Finds the server that a link connects to.

    :ivar key: on a Cluster, the key whose primary it finds.
    :ivar last_delay: seconds, the longest time between two tries to connect.
    """

    key: str | None
    last_delay: float

    def locate(self) -> Deferred[Place]:
        """Where it is now; fails with `Unlocated`."""

    def check(self, connection: RedisConnection, server: Mapping[str, str]) -> Deferred[None]:
        """Whether a new connection leads to the right server; fails with `WrongServer` if not.

        :param server: its INFO.
        """

    def hint(self, error: RedisError) -> bool:
        """An error reply; whether it says that another server is the right one."""

    def follow(self, moved: Callable[[], None]) -> None:
        """Call `moved` whenever the server turns out to be, or to become, another one."""

    def unfollow(self, moved: Callable[[], None]) -> None:
        """Call it no more."""

    def stop(self) -> Deferred[None]:
        """End what it watches; called once no link uses it any more."""


class FixedLocator:
    """A server whose place does not change.

    Behind a name or an address there may be another server after a failover; a replica is refused.
    """

    key: str | None = None
    last_delay = LAST_DELAY

    def __init__(self, place: Place) -> None:
        self._place = place

    def locate(self) -> Deferred[Place]:
        return succeed(self._place)

    def check(self, connection: RedisConnection, server: Mapping[str, str]) -> Deferred[None]:
        if server.get("redis_mode") == "cluster":
            return fail(WrongServer("cluster"))
        return check_primary(connection)

    def hint(self, error: RedisError) -> bool:
        return False

    def follow(self, moved: Callable[[], None]) -> None:
        pass

    def unfollow(self, moved: Callable[[], None]) -> None:
        pass

    def stop(self) -> Deferred[None]:
        return succeed(None)


def check_primary(connection: RedisConnection) -> Deferred[None]:
    """Ask a server for its role.

    :raises WrongServer: it is not a primary.
    """

    def told(reply: list[Any]) -> None:
        if reply[0] != b"master":
            raise WrongServer("replica" if reply[0] == b"slave" else "sentinel")

    return connection.command("ROLE").addCallback(told)


class Connector:
    """Connects and logs in.

    :param clock: the reactor.
    :param user: of the access control list; empty for the default user.
    :param password: without one nobody logs in.
    :param tls: whether by TLS. The certificate has to name the host that is connected.
    :param authorities: PEM text of the authorities that are trusted; the system's if it is empty.
    """

    def __init__(
        self,
        clock: Any,
        *,
        user: str = "",
        password: str = "",
        tls: bool = False,
        authorities: bytes = b"",
    ) -> None:
        self.clock = clock
        self._user = user
        self._password = password
        self._tls = tls
        self._trust = trusted(authorities) if tls else None

    def connect(
        self, place: Place, connection: RedisConnection, timeout: float = CONNECT_TIMEOUT
    ) -> Deferred[Any]:
        """Let a connection be made to a place, within so many seconds."""
        factory = Factory.forProtocol(lambda: connection)
        factory.noisy = False
        connected: Deferred[Any] = self._endpoint(place, timeout).connect(factory)
        return connected

    def log_in(self, connection: RedisConnection) -> Deferred[Any]:
        """Log in, if there is a password."""
        if not self._password:
            return succeed(None)
        credentials = (self._user, self._password) if self._user else (self._password,)
        return connection.command("AUTH", *credentials)

    def log_in_if_asked(self, connection: RedisConnection) -> Deferred[Any]:
        """Log in to a server that may have no password, as a Sentinel beside servers that have one."""

        def not_asked(failure: Any) -> None:
            failure.trap(RedisError)
            if "without any password" not in failure.value.text:
                failure.raiseException()

        return self.log_in(connection).addErrback(not_asked)

    def _endpoint(self, place: Place, timeout: float) -> IStreamClientEndpoint:
        if place.path:
            return UNIXClientEndpoint(self.clock, place.path, timeout=timeout)
        # An address has no need of an endpoint that tries several, which is late to say that all failed.
        kind = (
            TCP4ClientEndpoint
            if isIPAddress(place.host)
            else TCP6ClientEndpoint
            if isIPv6Address(place.host)
            else HostnameEndpoint
        )
        endpoint: IStreamClientEndpoint = kind(self.clock, place.host, place.port, timeout=timeout)
        if not self._tls:
            return endpoint
        return wrapClientTLS(Strict(place.host, self._trust), endpoint)
