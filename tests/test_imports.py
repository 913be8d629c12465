"""The import table of DESIGN.md section 2 as data, and a walk over every module's imports against it.

To add a module, put it into `TABLE` at its level. What it may import is said once per row.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = Path(__file__).parents[1] / "realtime"


class Row(NamedTuple):
    """One level, or part of one.

    :ivar modules: module names below ``realtime``; a package stands for all its modules.
    :ivar ours: what they may import of ours, besides modules of their own package.
    :ivar others: what they may import of others, besides the standard library.
    """

    modules: str
    ours: str
    others: str


LEVEL_0 = (
    "errors messages events settings config_file kinds state names ids payload redis_url addresses memory"
)
LEVEL_1 = (
    "wire broker trust queues routing metrics figures native deadlines periodic complaints logs line_limit"
    " banner fetching strangers probe systemd collectors reception"
)
LEVEL_2 = (
    "connections rooms presence history auth tokens limits moderation heartbeat queueing receipts health"
    " pulse signals keys jwks introspection bans login api_keys security rights policy escalation"
    " shared_limit folding content spam journal newest"
)
LEVEL_3 = (
    "router handlers fanout sessions session_rules arrivals nobodies endings user_endings memberships"
    " admission entrance recovery notices drain peers enforcement inquiries watches census turnstile"
    " readings moving watching traces receipt_watches pace booking_workers queue_stream"
)
LEVEL_4 = "transport ingress"

#: Of levels 0 to 2, all but concrete codecs and brokers.
SEAMS = (
    f"{LEVEL_0} {LEVEL_2} wire.session broker.interface broker.receipts trust.interface queues.interface"
    " queues.payloads routing metrics deadlines periodic complaints line_limit logs strangers reception"
)
#: The parts of Twisted in which nothing waits for a socket.
WAITING = (
    "twisted.internet.defer twisted.internet.task twisted.internet.interfaces twisted.logger"
    " twisted.python.failure"
)

TABLE = (
    Row(LEVEL_0, LEVEL_0, "msgspec"),
    Row("wire", LEVEL_0, "msgspec zope.interface autobahn.wamp cbor2 msgpack"),
    Row(
        "broker",
        f"{LEVEL_0} deadlines periodic complaints",
        "msgspec zope.interface twisted txredisapi hiredis OpenSSL service_identity",
    ),
    Row("routing banner", LEVEL_0, "msgspec"),
    Row("metrics figures collectors", f"{LEVEL_0} collectors", "prometheus_client"),
    Row("native", LEVEL_0, "cffi"),
    Row("periodic", LEVEL_0, WAITING),
    Row("deadlines", LEVEL_0, "twisted.internet.interfaces twisted.logger"),
    Row("complaints", "", ""),
    Row("reception", "", WAITING),
    Row("line_limit", "", "twisted.logger"),
    Row("logs", LEVEL_0, "twisted.logger zope.interface"),
    Row(
        LEVEL_2,
        f"{LEVEL_0} metrics deadlines periodic wire.session broker.interface broker.receipts connections",
        f"msgspec zope.interface {WAITING}",
    ),
    Row("trust", f"{LEVEL_0} periodic broker", f"msgspec zope.interface {WAITING}"),
    Row("queues", f"{LEVEL_0} broker", f"msgspec zope.interface {WAITING}"),
    Row("queueing", "rights queues.interface", ""),
    Row("fetching", f"{LEVEL_0} broker.redis_tls", "treq twisted zope.interface"),
    Row("auth tokens keys", LEVEL_0, "jwt cryptography"),
    Row("auth bans login", "trust.interface bans keys jwks introspection auth fetching api_keys", ""),
    Row("policy", "api_keys bans content moderation rights routing limits security", ""),
    Row("health", "pulse", ""),
    Row("moderation", "bans content rights security spam", ""),
    Row("folding content spam", "folding", "confusable_homoglyphs ahocorasick re2 glin_profanity"),
    Row("security journal", "line_limit", ""),
    Row("escalation shared_limit", "limits trust.interface", ""),
    Row("strangers probe systemd", "", ""),
    Row("jwks introspection", "keys fetching", ""),
    Row(LEVEL_3, f"{SEAMS} {LEVEL_3}", f"msgspec zope.interface {WAITING}"),
    Row(
        LEVEL_4,
        f"{SEAMS} {LEVEL_3} wire",
        "msgspec zope.interface twisted OpenSSL autobahn txaio klein werkzeug.exceptions prometheus_client",
    ),
    # A process of its own: of the node it knows what it says to it.
    Row("front v1", "", "msgspec grpc grpc_health grpc_reflection grpc_status google"),
    Row("front", "v1", ""),
    Row("ingress node", "front.pipe", ""),
    Row("transport", "native", ""),
    # What answers HTTP does so on the listeners' own requests.
    Row("ingress", "transport.site transport.assets transport.origins", ""),
    Row("bus bus_health", f"{LEVEL_0} broker metrics journal", "msgspec"),
    Row(
        "guard node workers worker_pages",
        f"{LEVEL_0} {LEVEL_1} {LEVEL_2} {LEVEL_3} {LEVEL_4} bus bus_health guard workplace aggregate",
        "msgspec twisted",
    ),
    # The parent of several processes, and their places.
    Row("workplace", "", "msgspec twisted zope.interface"),
    Row("aggregate", "", ""),
    Row("shared_ports worker_process", f"{LEVEL_0} workplace", "msgspec twisted"),
    Row("worker_metrics", "", "prometheus_client"),
    Row(
        "workers worker_pages",
        "shared_ports worker_process worker_pages worker_metrics",
        "prometheus_client",
    ),
    Row(
        "tap cli",
        f"{LEVEL_0} {LEVEL_1} {LEVEL_2} {LEVEL_3} {LEVEL_4} node workers workplace",
        "twisted",
    ),
)

#: Who may import the global reactor.
REACTOR = "tap"


def covers(names: str, module: str) -> bool:
    """Whether a dotted name is one of some, or below one of them."""
    return any(module == name or module.startswith(f"{name}.") for name in names.split())


def imports(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """What a module imports, wherever in its source, as absolute dotted names.

    ``from a import b`` counts as ``a.b``, whether b is a module or not.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                up = node.level - is_package
                base = ".".join([*parts[: len(parts) - up], *filter(None, [base])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def refused(module: str, imported: str) -> str | None:
    """Why a module below ``realtime`` may not import something; None if it may."""
    rows = [row for row in TABLE if covers(row.modules, module)]
    if not rows:
        return (
            f"realtime.{module} is in no row of TABLE in tests/test_imports.py:"
            " add it at its level (DESIGN.md section 2)"
        )
    if covers("twisted.internet.reactor", imported) and module != REACTOR:
        return f"realtime.{module} imports the global reactor; only realtime.{REACTOR} may"
    root, _, below = imported.partition(".")
    if root == "realtime":
        package = module.partition(".")[0]
        own = covers(package, below) and (PACKAGE / package).is_dir()
        if own or below == "__version__" or any(covers(row.ours, below) for row in rows):
            return None
    elif root in sys.stdlib_module_names or any(covers(row.others, imported) for row in rows):
        return None
    return f"realtime.{module} may not import {imported} (TABLE in tests/test_imports.py)"


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours that is not an empty package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__":
            continue
        yield ".".join(parts), path


class ImportTests(SynchronousTestCase):
    """Imports go strictly down the levels."""

    def test_every_import(self) -> None:
        faults = {
            fault
            for module, path in modules()
            for imported in imports(path.read_text(), f"realtime.{module}")
            if (fault := refused(module, imported))
        }
        if faults:
            self.fail("\n".join(sorted(faults)))

    def test_packages_are_empty(self) -> None:
        """A package imports nothing, so that importing one module brings in no other."""
        for path in PACKAGE.rglob("__init__.py"):
            package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
            self.assertEqual(list(imports(path.read_text(), package, is_package=True)), [], package)

    def test_every_module_has_one_place(self) -> None:
        """No level holds what another holds."""
        names = " ".join(
            [
                LEVEL_0,
                LEVEL_1,
                LEVEL_2,
                LEVEL_3,
                LEVEL_4,
                "bus bus_health guard node tap cli front v1",
                "workers workplace worker_process worker_pages worker_metrics shared_ports aggregate",
            ]
        ).split()
        self.assertEqual(len(names), len(set(names)))
        rows = {name for row in TABLE for name in row.modules.split()}
        self.assertEqual(set(names), rows)


class WalkTests(SynchronousTestCase):
    """The walk sees what it must refuse."""

    def test_imports(self) -> None:
        """Absolute and relative imports, at the top and inside."""
        source = (
            "import os.path, json as j\nfrom ..errors import A, B as C\nfrom . import session\n"
            "def f():\n    from twisted.internet import reactor\n"
        )
        self.assertEqual(
            sorted(imports(source, "realtime.wire.plain")),
            [
                *("json", "os.path", "realtime.errors.A", "realtime.errors.B", "realtime.wire.session"),
                "twisted.internet.reactor",
            ],
        )
        self.assertEqual(list(imports("from .a import b", "realtime.wire", True)), ["realtime.wire.a.b"])

    def test_down(self) -> None:
        for module, imported in (
            ("errors", "enum"),
            ("settings", "realtime.state"),
            ("settings", "msgspec.Struct"),
            ("wire.socketio", "realtime.wire.session.Frame"),
            ("broker.memory", "twisted.internet.defer.Deferred"),
            ("rooms", "realtime.connections.Connection"),
            ("rooms", "realtime.broker.interface.IBroker"),
            ("auth", "jwt"),
            ("fanout", "realtime.wire.session.Frame"),
            ("transport.websocket", "realtime.wire.engineio.decode"),
            ("node", "realtime.broker.memory.MemoryBroker"),
            ("tap", "twisted.internet.reactor"),
            ("tap", "realtime.node.Node"),
        ):
            self.assertIsNone(refused(module, imported))

    def test_up_and_aside(self) -> None:
        for module, imported in (
            ("errors", "realtime.metrics"),
            ("messages", "twisted.internet.defer"),
            ("wire.socketio", "twisted.internet.defer"),
            ("wire.socketio", "realtime.broker.memory"),
            ("deadlines", "twisted.internet.task"),
            ("rooms", "realtime.presence"),
            ("rooms", "realtime.wire.socketio"),
            ("rooms", "twisted.web.server"),
            ("rooms", "jwt"),
            ("router", "realtime.broker.memory.MemoryBroker"),
            ("fanout", "realtime.wire.socketio"),
            ("fanout", "realtime.transport.door"),
            ("transport.door", "realtime.broker.memory"),
            ("transport.door", "realtime.ingress.http"),
            ("node", "realtime.tap"),
            ("cli", "realtime.tap"),
            ("node", "twisted.internet.reactor"),
            ("transport.door", "twisted.internet.reactor.callLater"),
        ):
            self.assertIsNotNone(refused(module, imported), (module, imported))

    def test_unknown_module(self) -> None:
        self.assertIn("realtime.helpers is in no row", refused("helpers", "os") or "")
