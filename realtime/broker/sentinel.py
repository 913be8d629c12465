"""`SentinelLocator`: the primary is where most recently elected Sentinels say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.logger import Logger

from .redis_link import SubscriberLink, settled
from .redis_locate import LAST_DELAY, Connector, FixedLocator, Place, Unlocated, check_primary
from .redis_protocol import RedisConnection, RedisError

#: Seconds that a Sentinel has for its answer, and for being connected.
_TIMEOUT: Final = 0.5
#: What a Sentinel says when it has made a replica the primary, and when it has told all others.
_SWITCHES: Final = (b"+promoted-slave", b"+switch-master")

_log: Final = Logger()


class SentinelLocator:
    """Asks all Sentinels, believes the newest configuration, and hears at once when they fail over.

    :param connector: logs in to the primary, and to Sentinels that ask for a password.
    :param sentinels: where they are.
    :param service: the name by which they know the primary.
    """

    key: str | None = None
    last_delay = LAST_DELAY

    def __init__(self, connector: Connector, sentinels: Sequence[Place], service: str) -> None:
        self._connector = connector
        self._sentinels = sentinels
        self._service = service
        self._place: Place | None = None
        self._followers: list[Callable[[], None]] = []
        self._watches: list[_Watch] = []
        self._looking: Deferred[Any] | None = None

    # -- Locator

    def locate(self) -> Deferred[Place]:
        answers = [Deferred.fromCoroutine(self._ask(sentinel)) for sentinel in self._sentinels]

        def told(results: list[tuple[bool, Any]]) -> Place:
            good = Counter(answer for success, answer in results if success)
            if not good:
                failed = [failure.value for _, failure in results]
                unknown = any(
                    isinstance(one, RedisError) and "No such master" in one.text for one in failed
                )
                raise Unlocated("unknown_service" if unknown else "no_sentinel")
            (_, self._place), _ = max(good.items(), key=lambda item: (item[0][0], item[1]))
            return self._place

        return DeferredList(answers, consumeErrors=True).addCallback(told)

    def check(self, connection: RedisConnection, server: Mapping[str, str]) -> Deferred[None]:
        return check_primary(connection)

    def hint(self, error: RedisError) -> bool:
        return False

    def follow(self, moved: Callable[[], None]) -> None:
        self._followers.append(moved)
        if not self._watches:
            self._watches = [
                _Watch(self._connector, place, self._heard, self._missed) for place in self._sentinels
            ]
            for watch in self._watches:
                watch.start()

    def unfollow(self, moved: Callable[[], None]) -> None:
        self._followers.remove(moved)

    def stop(self) -> Deferred[None]:
        watches, self._watches = self._watches, []
        if self._looking is not None:
            self._looking.cancel()
        return gatherResults([watch.stop() for watch in watches]).addCallback(lambda _: None)

    # -- the Sentinels

    async def _ask(self, sentinel: Place) -> tuple[int, Place]:
        """What one Sentinel says: how new its configuration is, and where the primary is."""
        connection = RedisConnection(self._connector.clock, _TIMEOUT)
        try:
            await self._connector.connect(sentinel, connection, _TIMEOUT)
            login = self._connector.log_in_if_asked(connection)
            master = connection.command("SENTINEL", "MASTER", self._service)
            # During a failover this is the new primary before the other reply has it.
            address = connection.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            _, reply, (host, port) = await settled([login, master, address])
        finally:
            connection.abort()
        told = dict(zip(reply[::2], reply[1::2], strict=True))
        return int(told[b"config-epoch"]), Place(host.decode(), int(port))

    def _heard(self, channel: bytes, data: bytes) -> None:
        """A Sentinel tells of a failover; each of them does, once it knows."""
        words = data.decode(errors="replace").split(" ")
        # "main 10.0.0.1 6379 10.0.0.2 6379", and "slave 10.0.0.2:6379 10.0.0.2 6379 @ main …"
        name, host, port = words[0], words[3], words[4]
        if channel != _SWITCHES[1]:
            name, host, port = words[5], words[2], words[3]
        place = Place(host, int(port))
        if name == self._service and place != self._place:
            self._place = place
            self._tell()

    def _tell(self) -> None:
        _log.info("Redis: the primary is now {place}", place=str(self._place))
        for moved in list(self._followers):
            moved()

    def _missed(self) -> None:
        """For a while a Sentinel was not heard."""
        before = self._place

        def found(place: Place) -> None:
            if before is not None and place != before:
                self._tell()

        if self._looking is None:
            self._looking = self.locate()
            self._looking.addCallbacks(found, _unknown).addBoth(self._looked)

    def _looked(self, result: object) -> None:
        self._looking = None


def _unknown(failure: Any) -> None:
    """Then it is asked again by whoever has to connect."""
    failure.trap(Unlocated, CancelledError)


class _Watch(SubscriberLink):
    """Listens to one Sentinel.

    :param heard: called with what it says of a failover.
    :param missed: called when it is heard again after it was not.
    """

    def __init__(
        self,
        connector: Connector,
        sentinel: Place,
        heard: Callable[[bytes, bytes], None],
        missed: Callable[[], None],
    ) -> None:
        super().__init__(
            connector,
            FixedLocator(sentinel),
            name="sentinel",
            on_message=heard,
            on_up=lambda link: self._heard_again(),
        )
        self._missed = missed
        self._heard_before = False
        self._wanted[self._kind].update(_SWITCHES)

    def _heard_again(self) -> None:
        if self._heard_before:
            self._missed()
        self._heard_before = True

    async def _introduce(self, connection: Any) -> None:
        # A Sentinel knows few commands.
        await self._connector.log_in_if_asked(connection)
        await connection.command("PING")
