"""``twistd realtime``: its options, its log, and how it starts or fails to.

The one module that touches the global reactor.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from twisted.application.service import IService, MultiService
from twisted.internet import reactor as _reactor
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

from .banner import USER, banner
from .ingress.tryout import page_key
from .logs import Lines, line, text
from .node import Node
from .settings import SETTINGS, ConfigError, Settings, load, option, unknown
from .systemd import descriptors, first_environ, notify, watchdog
from .tokens import mint
from .workers import Workers
from .workplace import DRAIN, HURRY, RETIRE, Parent, place_of

reactor: Final[Any] = _reactor
log: Final = Logger()

#: Files that the process needs besides its clients' sockets.
_OTHER_FILES: Final = 256
#: Seconds for which the banner's token is good.
_TOKEN_LIFETIME: Final = 43200.0


class NodeFactory(Protocol):
    """What makes the service: `realtime.node.Node`.

    :param clock: the reactor; its clock is monotonic.
    :param wall: seconds since the epoch.
    :param on_ready: to be called once all ports are bound, with the real port of each of the
        settings that name one (``{"PORT": 3003, ...}``).
    :param descriptors: sockets that systemd has passed; given where there are any.
    """

    def __call__(
        self,
        settings: Settings,
        *,
        clock: Any,
        wall: Callable[[], float],
        on_ready: Callable[[Mapping[str, int]], None],
        descriptors: Mapping[str, int] = ...,
    ) -> IService: ...


class Options(usage.Options):
    """Every setting as an option; one that is given wins over the environment."""

    synopsis = "[options]"
    longdesc = (
        "Each option is also an environment variable: --ws-path is WS_PATH. Secrets are better"
        " given by the environment, where other users of the machine can't see them."
        " `realtime settings` shows all with their present values, `realtime check` validates them."
    )
    optParameters = [  # noqa: RUF012  Twisted's way to declare options
        [
            option(name),
            None,
            None,
            f"{setting.help} ({setting.kind.name}{setting.default and ', default ' + setting.default})",
        ]
        for name, setting in SETTINGS.items()
    ]


class Realtime(MultiService):
    """The top of the service tree: sets up the log, and turns a failed start into plain lines.

    :param twistd: twistd's own options.
    :param log_format: LOG_FORMAT.
    :ivar write: takes a line of the log, as it is.
    :ivar reload: what SIGHUP does; it ends the process while there is nothing.
    :ivar retire: what a worker does first that another takes the place of.
    :ivar hurry: what a second SIGTERM does; it ends the process while there is nothing.
    """

    write: Callable[[str], object] = sys.stdout.write
    reload: Callable[[], object] | None = None
    hurry: Callable[[], object] | None = None
    retire: Callable[[], object] | None = None

    def __init__(self, twistd: Mapping[str, Any], log_format: str = "auto") -> None:
        super().__init__()
        self._twistd = twistd
        self._log_format = log_format

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and give it the log's observer: twistd looks for one there."""
        super().setServiceParent(parent)
        if isinstance(parent, Componentized) and not self._twistd.get("logger"):
            form = text if _for_people(self._twistd, self._log_format) else line
            self.write = _log_writer(self._twistd)
            parent.setComponent(ILogObserver, Lines(self.write, form))

    def privilegedStartService(self) -> None:
        """Start, while the process may still do all that its first user may."""
        with self._plain_faults():
            super().privilegedStartService()

    def startService(self) -> None:
        """Start."""
        with self._plain_faults():
            super().startService()

    @contextlib.contextmanager
    def _plain_faults(self) -> Iterator[None]:
        """End the process with one line per fault, where twistd would print a traceback."""
        try:
            yield
        except ConfigError as error:
            for fault in error.faults:
                log.critical("not started: {fault}", fault=fault)
            self._leave(error)
            # the log has taken the place of sys.stderr by now
            print(error, file=sys.__stderr__)
            raise SystemExit(1) from None

    def _leave(self, error: ConfigError) -> None:
        """What twistd does itself only for other exceptions: remove the pid file, tell its parent."""
        if self._twistd.get("pidfile"):
            with contextlib.suppress(OSError):
                os.unlink(self._twistd["pidfile"])
        # last: the parent ends on it, and whoever waits for the parent finds all in order
        pipe = self._twistd.get("statusPipe")
        if pipe is not None:
            os.write(pipe, b"1 " + str(error).encode("ascii", "backslashreplace")[:98])
            os.close(pipe)


def makeService(
    options: usage.Options, node: NodeFactory = Node, environ: Mapping[str, str] = os.environ
) -> IService:
    """The service that twistd runs.

    :param node: makes what is to run, in place of `realtime.node.Node`.
    :raises SystemExit: the settings can't be used; its text has one line per fault.
    """
    # Twisted's clock follows the wall clock, where a step back would freeze every timer
    reactor.seconds = time.monotonic
    try:
        settings = load(environ, options)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    for warning in unknown(environ):
        log.warn("{text}", text=warning)
    _allow_files(settings.ws_max_connections + _OTHER_FILES)
    twistd: Mapping[str, Any] = options.parent or {}

    passed = descriptors(first_environ() if environ is os.environ else environ, os.getpid())

    place = place_of(environ)
    service = Realtime(twistd, settings.log_format)
    told = None if place is None else Parent(reactor, _words_of_the_parent(service))

    def ready(ports: Mapping[str, int]) -> None:
        _collect_rarely()
        if told is not None:
            reactor.callWhenRunning(told.ready)
            return
        reactor.callWhenRunning(_tell_systemd, environ)
        if twistd.get("nodaemon") and not settings.production:
            reactor.callWhenRunning(_greet, settings, ports["PORT"])

    # before what the node does then: once it is said to be up a signal may come
    reactor.callWhenRunning(_take_signals, service)
    try:
        given: dict[str, Any] = {"descriptors": passed} if passed else {}
        if place is not None:
            # the terminal's signals are the parent's, which passes on what they mean
            os.setsid()
            given = {"place": place}
        elif settings.workers > 1:
            node = Workers
            given |= {"environ": environ, "write": lambda line: service.write(line)}  # noqa: PLW0108  it is set later
        made = node(settings, clock=reactor, wall=time.time, on_ready=ready, **given)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    made.setServiceParent(service)
    service.reload = getattr(made, "reload", None)
    service.hurry = getattr(made, "hurry", None)
    service.retire = getattr(made, "retire", None)
    return service


def _collect_rarely() -> None:
    """Let the garbage collector look seldom, and never at what the start has left.

    Connections live long and are freed without it: its many looks at them cost a tenth of the
    processor under load, and find nothing. Where it looks, it looks at little: at 20,000 objects it
    holds up everybody for 3 to 9 ms, at 2000 for 0.3.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 500, 100)


def _tell_systemd(environ: Mapping[str, str]) -> None:
    """Say that we are up, and again and again that the reactor turns, where systemd wants to know."""
    if not notify(environ, "READY=1"):
        return
    reactor.addSystemEventTrigger("before", "shutdown", notify, environ, "STOPPING=1")
    within = watchdog(environ, os.getpid())
    if within:
        LoopingCall(notify, environ, "WATCHDOG=1").start(within / 3)


def _greet(settings: Settings, port: int) -> None:
    token = mint(settings, USER, now=time.time(), lifetime=_TOKEN_LIFETIME)
    # not sys.stdout, which is the log by now: a token never goes there
    print(banner(settings, port, token, page_key(settings)), end="", file=sys.__stdout__, flush=True)


def _take_signals(service: Realtime) -> None:
    """Let SIGTERM and SIGINT end the process with status 0, after the drain; a second one hurries the
    drain, a third one ends the process at once.

    By Twisted's own handlers it would die of the signal, and a second one would be a logged error.
    """
    reload = service.reload
    if reload is not None:
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reload))

    def then(handler: Any) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, handler)

    def stop(number: int, frame: object) -> None:
        then(again if service.hurry is not None else signal.SIG_DFL)
        # not here, where the signal may have interrupted a line that is being written
        reactor.callFromThread(_stop, signal.Signals(number).name)

    def again(number: int, frame: object) -> None:
        then(signal.SIG_DFL)
        if service.hurry is not None:
            reactor.callFromThread(service.hurry)

    then(stop)


def _words_of_the_parent(service: Realtime) -> dict[bytes, Callable[[], object]]:
    """What a worker does at each word of its parent. To be told twice to drain is no hurry."""
    told: list[bytes] = []

    def drain(word: bytes) -> None:
        if not told:
            told.append(word)
            if word == RETIRE and service.retire is not None:
                service.retire()
            _stop("the parent")

    def hurry() -> None:
        if service.hurry is not None:
            service.hurry()

    return {DRAIN: lambda: drain(DRAIN), RETIRE: lambda: drain(RETIRE), HURRY: hurry}


def _stop(reason: str) -> None:
    log.info("stopping: {reason}", reason=reason)
    # a worker may be told by its parent and by a signal
    with contextlib.suppress(ReactorNotRunning):
        reactor.stop()


def _allow_files(wanted: int) -> None:
    """Raise the limit of open files as far as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        log.warn(
            "the limit of open files is {most}; WS_MAX_CONNECTIONS needs {wanted} (ulimit -n)",
            most=most,
            wanted=wanted,
        )


def _for_people(twistd: Mapping[str, Any], log_format: str) -> bool:
    """Whether the log is text: as LOG_FORMAT says, else where it goes to a terminal."""
    if log_format != "auto":
        return log_format == "text"
    return _to_stdout(twistd) and sys.stdout.isatty()


def _to_stdout(twistd: Mapping[str, Any]) -> bool:
    name = twistd.get("logfile")
    return not twistd.get("syslog") and (name == "-" or bool(twistd.get("nodaemon") and not name))


def _log_writer(twistd: Mapping[str, Any]) -> Callable[[str], object]:
    """Where the log's lines go, as twistd's options say it."""
    if twistd.get("syslog"):
        import syslog  # not on every system

        syslog.openlog(twistd.get("prefix") or "realtime", 0, syslog.LOG_USER)
        return lambda text: syslog.syslog(text.rstrip("\n"))
    name, stays = twistd.get("logfile"), twistd.get("nodaemon")
    if name == "-" and not stays:
        raise SystemExit("--logfile=-: a daemon has no stdout; accepted is a file, or -n")
    if _to_stdout(twistd):
        return _stdout_writer()
    path = name or "twistd.log"
    try:
        file: LogFile = LogFile.fromFullPath(path)
    except OSError as error:
        raise SystemExit(f"--logfile={path!a}: can't be written ({error.strerror})") from None
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(file.rotate))
    write: Callable[[str], object] = file.write
    return write


def _stdout_writer() -> Callable[[str], object]:
    stdout = sys.stdout  # the log takes its place later

    def write(text: str) -> None:
        stdout.write(text)
        stdout.flush()

    return write
