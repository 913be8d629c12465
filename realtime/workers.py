"""Workers: the parent of ``--workers N``: N processes on the same ports, as one node.

The parent opens the ports that clients and services come to, once for each worker (SO_REUSEPORT spreads
connections among them), and keeps them open: what comes while a worker is started again waits for it. It
serves health and metrics itself, those of all together. It starts again who has ended or does not turn any
more, and on SIGHUP replaces one after the other by a fresh one.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from prometheus_client.exposition import generate_latest
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.resource import Resource

from . import __version__, config_file, workplace
from .bans import Bans
from .health import Phase
from .metrics import Metrics
from .policy import Policy
from .security import Security
from .settings import ConfigError, Settings
from .shared_ports import BACKLOG, open_shared, passed, unbound
from .systemd import adopt
from .transport.door import DoorFactory
from .transport.site import Site
from .transport.websocket import WebSockets
from .worker_metrics import WorkerMetrics
from .worker_pages import Asked, HealthPages, MetricsPage
from .worker_process import WorkerProcess, environment
from .workplace import FIRST_LISTENER, Place, admin_socket

#: Seconds before a worker is started again: at once, then twice as long each time, up to the last.
AGAIN: Final = 0.1
LONGEST: Final = 5.0
#: Seconds after which a worker that has lived so long is no sign that something is wrong.
WELL: Final = 10.0

#: Seconds for a new worker to be up, and for one that does not turn any more until it is ended.
STARTING: Final = 60.0
SILENT: Final = 30.0

#: Seconds that a worker has beside its drain, before it is ended by force.
SLACK: Final = 10.0

_log = Logger()


class Slot:
    """The place of one worker, through all its processes.

    :ivar current: the process that takes what is new; None while none is there.
    :ivar leaving: processes that have still clients to send away.
    """

    def __init__(self, number: int, sockets: dict[str, int]) -> None:
        self.number = number
        self.sockets = sockets
        self.current: WorkerProcess | None = None
        self.leaving: list[WorkerProcess] = []
        self.delay = AGAIN
        self.again: Any = None
        self.starts = 0

    @property
    def processes(self) -> list[WorkerProcess]:
        """All its processes."""
        return [*self.leaving, *([self.current] if self.current is not None else [])]


class Workers(MultiService):
    """The parent of some workers; takes the place of a `node.Node`.

    :param clock: the reactor.
    :param on_ready: called once all workers serve, with the port of each setting.
    :param descriptors: sockets that listen already, by the setting of the port that each is for.
    :param environ: what the workers' environment is made from.
    :param write: takes a line of the workers' log.
    :raises ConfigError: the configuration file is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Any,
        wall: Callable[[], float],
        on_ready: Callable[[Mapping[str, int]], object] = lambda ports: None,
        descriptors: Mapping[str, int] = MappingProxyType({}),
        environ: Mapping[str, str] = os.environ,
        write: Callable[[str], object] = lambda line: None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.phase = Phase.STARTING
        self._clock = clock
        self._wall = wall
        self._on_ready = on_ready
        self._descriptors = descriptors
        self._environ = environ
        self._write = write
        self._started = clock.seconds()
        self._sockets: list[socket.socket] = []
        self._listening: dict[str, IListeningPort] = {}
        self._ports: dict[str, int] = {}
        self._directory = ""
        self._rolling = False
        self._roll_again = False
        self.slots: list[Slot] = []
        self._watching = LoopingCall(self._look)
        self._watching.clock = clock
        self._asked = Asked(clock, self._admins)
        self._check_config()
        self.counts = WorkerMetrics(settings.workers, lambda: float(len(self._up())))

    def _up(self) -> list[WorkerProcess]:
        return [slot.current for slot in self.slots if slot.current is not None and slot.current.up]

    def _check_config(self) -> None:
        """Refuse what the workers would refuse."""
        config = config_file.load(self.settings.realtime_config)
        Policy(
            self.settings,
            config,
            Bans(self._wall),
            Metrics(),
            Security(self._clock.seconds),
            self._wall,
        )

    # -- life

    def privilegedStartService(self) -> None:
        """Bind every port, or none."""
        super().privilegedStartService()
        count = self.settings.workers
        shared: list[dict[str, int]] = [{} for _ in range(count)]
        try:
            for name, address in self._shared_addresses().items():
                if name in self._descriptors:
                    made = passed(self._descriptors[name], count)
                else:
                    made = open_shared(name, address, getattr(self.settings, name.lower()), count)
                self._sockets += made
                self._ports[name] = made[0].getsockname()[1]
                for mine, one in zip(shared, made, strict=True):
                    mine[name] = one.fileno()
            self._listen("HEALTH_CHECK_PORT", HealthPages(self))
            self._listen("METRICS_PORT", MetricsPage(self))
        except ConfigError:
            self._close()
            raise
        self.slots = [Slot(number, sockets) for number, sockets in enumerate(shared, 1)]
        for name, port in self._ports.items():
            address = self._shared_addresses().get(name, self.settings.api_bind_address)
            _log.info("listening", setting=name, address=address, port=port)

    def _shared_addresses(self) -> dict[str, str]:
        """The listeners that the workers share."""
        return {"PORT": self.settings.bind_address, "API_PORT": self.settings.api_bind_address}

    def startService(self) -> None:
        """Start the workers."""
        super().startService()
        try:
            # not before: as who the process is from here on
            self._directory = tempfile.mkdtemp(prefix="realtime-")
        except OSError as error:
            self._close()
            raise ConfigError(
                f"WORKERS={len(self.slots)}: there is no directory for their sockets ({error.strerror});"
                " accepted is 1, or a TMPDIR that can be written to"
            ) from None
        for slot in self.slots:
            self._start(slot)
        first = DeferredList([slot.current.ready for slot in self.slots if slot.current is not None])
        first.addCallback(lambda _: self._serve())
        self._watching.start(workplace.BEAT_INTERVAL, now=False)

    def _serve(self) -> None:
        if self.phase is Phase.STARTING:
            self.phase = Phase.SERVING
            self._on_ready(self._ports)

    def reload(self) -> Deferred[None]:
        """Replace every worker by a fresh one, one after the other; a bad configuration changes nothing."""
        return Deferred.fromCoroutine(self._roll())

    def hurry(self) -> None:
        """Let a drain that is under way come to its end."""
        for process in self._processes():
            process.say(workplace.HURRY)

    def stopService(self) -> Deferred[None]:
        """Drain all workers at once."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.phase = Phase.DRAINING
        self._watching.stop()
        for slot in self.slots:
            if slot.again is not None and slot.again.active():
                slot.again.cancel()
        await self._end(self._processes(), workplace.DRAIN)
        for port in self._listening.values():
            await maybeDeferred(port.stopListening)
        self._close()
        shutil.rmtree(self._directory, ignore_errors=True)
        await maybeDeferred(super().stopService)
        _log.info("stopped")

    async def _end(self, processes: list[WorkerProcess], word: bytes) -> None:
        """Let processes drain, and wait for their end."""
        for process in processes:
            process.say(word)
        settings = self.settings
        bound = settings.drain_settle + settings.drain_timeout + SLACK
        forcing = [self._clock.callLater(bound, process.kill) for process in processes]
        for process, force in zip(processes, forcing, strict=True):
            if not process.gone:
                await _shared(process.ended)
            if force.active():
                force.cancel()

    def _processes(self) -> list[WorkerProcess]:
        return [process for slot in self.slots for process in slot.processes]

    # -- ports

    def _listen(self, name: str, resource: Resource) -> None:
        settings = self.settings
        port = getattr(settings, name.lower())
        factory = DoorFactory(
            clock=self._clock,
            site=Site({"/": resource}),
            upgrades={},
            websockets=WebSockets(
                self._clock,
                max_message=settings.ws_max_message_bytes,
                message_timeout=settings.ws_message_timeout,
            ),
            head_timeout=settings.ws_handshake_timeout,
            body_timeout=settings.ws_message_timeout,
        )
        address = settings.api_bind_address
        try:
            if name in self._descriptors:
                descriptor, family = adopt(self._descriptors[name])
                made = self._clock.adoptStreamPort(descriptor, family, factory)
            else:
                made = self._clock.listenTCP(port, factory, backlog=BACKLOG, interface=address)
        except CannotListenError as error:
            raise unbound(name, address, port, error.socketError.strerror) from None
        self._listening[name] = made
        self._ports[name] = made.getHost().port

    def _close(self) -> None:
        for made in self._sockets:
            made.close()
        if self.phase is Phase.STARTING:
            for port in self._listening.values():
                port.stopListening()

    # -- workers

    def _spawn(self, slot: Slot) -> WorkerProcess:
        slot.starts += 1
        prefix = f"{slot.number}x{slot.starts:x}"
        places = {name: FIRST_LISTENER + at for at, name in enumerate(slot.sockets)}
        process = WorkerProcess(
            self._clock, Place(slot.number, prefix, self._directory, places), self._write
        )
        process.spawn(environment(self.settings, self._environ, slot.number), slot.sockets)
        process.ended.addCallback(lambda _: self._gone(slot, process))
        return process

    def _start(self, slot: Slot) -> None:
        slot.current = self._spawn(slot)

    def _gone(self, slot: Slot, process: WorkerProcess) -> None:
        for kind in ("peer", "admin"):
            path = os.path.join(self._directory, f"{process.place.prefix}.{kind}")
            if os.path.exists(path):
                os.unlink(path)
        if process in slot.leaving:
            slot.leaving.remove(process)
        if process is not slot.current:
            return
        slot.current = None
        if self.phase is Phase.DRAINING:
            return
        lived = self._clock.seconds() - process.started
        slot.delay = AGAIN if lived > WELL else min(2 * slot.delay, LONGEST)
        delay = 0.0 if lived > WELL else slot.delay
        _log.error("worker {worker} has ended and is started again", worker=slot.number, delay=delay)
        self.counts.restarts.inc()
        slot.again = self._clock.callLater(delay, self._start, slot)

    def _look(self) -> None:
        """End who was not heard of for long: its reactor does not turn any more."""
        now = self._clock.seconds()
        bound = max(SILENT, 2 * self.settings.health_max_lag)
        for process in self._processes():
            if now - process.heard > (bound if process.up else STARTING):
                _log.error("worker {worker} does not turn any more", worker=process.place.number)
                process.heard = now
                process.kill()

    # -- replacing them

    async def _roll(self) -> None:
        if self._rolling:
            self._roll_again = True
            return
        self._rolling = True
        try:
            while True:
                self._roll_again = False
                await self._roll_once()
                if not self._roll_again:
                    return
        finally:
            self._rolling = False

    async def _roll_once(self) -> None:
        try:
            self._check_config()
        except ConfigError as error:
            for fault in error.faults:
                _log.error("the configuration stays as it was: {fault}", fault=fault)
            return
        for slot in self.slots:
            if self.phase is not Phase.SERVING or not await self._replace(slot):
                return
        _log.info("the workers were replaced")

    async def _replace(self, slot: Slot) -> bool:
        """Let a fresh worker take over; False if it does not come up."""
        fresh = self._spawn(slot)
        slot.leaving.append(fresh)
        if not await _shared(fresh.ready):
            _log.error("a fresh worker did not come up; the old one stays", worker=slot.number)
            return False
        slot.leaving.remove(fresh)
        old, slot.current = slot.current, fresh
        self.counts.replaced.inc()
        if old is None:
            if slot.again is not None and slot.again.active():
                slot.again.cancel()
        else:
            slot.leaving.append(old)
            await self._end([old], workplace.RETIRE)
        return True

    # -- what operators read

    async def report(self) -> dict[str, Any]:
        """``/health``: that of all workers as one, and this process."""
        told = await self._asked.health()
        causes = told["causes"] if self.phase is Phase.SERVING else [self.phase.value]
        return {
            **told,
            "status": "unhealthy" if causes else told["status"],
            "causes": causes,
            "service": "realtime",
            "version": __version__,
            "pid": os.getpid(),
            "phase": self.phase.value,
            "uptime": int(self._clock.seconds() - self._started),
        }

    async def metrics(self) -> bytes:
        """``/metrics``: those of all workers, and this process's own as of the worker ``parent``."""
        return await self._asked.metrics(generate_latest(self.counts.registry).decode())

    def _admins(self) -> dict[str, str | None]:
        """Where each worker tells of itself; None while it is not up."""
        return {
            str(slot.number): admin_socket(self._directory, slot.current.place.prefix)
            if slot.current is not None and slot.current.up
            else None
            for slot in self.slots
        }


def _shared(deferred: Deferred[Any]) -> Deferred[Any]:
    """Waits for a Deferred that others wait for, too."""
    waiting: Deferred[Any] = Deferred()

    def passed(result: Any) -> Any:
        waiting.callback(result)
        return result

    deferred.addCallback(passed)
    return waiting
