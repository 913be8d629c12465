"""Tests that the pages in docs/ say what the code does: their tables, their names, their examples."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from realtime.errors import Close, RealtimeError
from realtime.events import CLIENT_EVENTS, SERVER_EVENTS
from realtime.health import Phase
from realtime.journal import MESSAGES, SLOW
from realtime.logs import KINDS
from realtime.metrics import Metrics
from realtime.security import LINES
from realtime.settings import SETTINGS, option
from realtime.traces import LINES as TRACED
from realtime.wire.wamp_errors import STANDARD
from realtime.worker_metrics import WorkerMetrics

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("docs/*.rst"), ROOT / "README.rst", ROOT / "SECURITY.rst"]
)

#: Words that are written like settings and are none.
NO_SETTINGS = {
    *("NODE_ENV", "CONNECT_ERROR", "GRAFANA_PASSWORD", "NOT_SERVING", "INVALID_ARGUMENT"),
    *("PERMISSION_DENIED", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"),
}
#: Long options of twistd and of pip.
NO_OPTIONS = {
    *(
        "nodaemon",
        "pidfile",
        "logfile",
        "syslog",
        "rst",
        "user",
        "room",
        "role",
        "ttl",
        "name",
        "timeout",
        "hurry",
    ),
    *("config-settings", "editable", "peers", "latency", "build", "check"),
}
#: First parts of event names.
EVENT_KINDS = "|".join(sorted({name.partition(":")[0] for name in (*SERVER_EVENTS, *CLIENT_EVENTS)}))


def page(name: str | Path) -> str:
    """The text of a page, by its path in the checkout."""
    return (ROOT / name).read_text(encoding="utf-8")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A simple table of reStructuredText."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = " ".join("=" * width for width in widths)
    lines = [
        " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def refusals() -> Iterator[type[RealtimeError]]:
    """Every refusal, one class per code, in the order in which errors.py has them."""
    waiting: list[type[RealtimeError]] = [RealtimeError]
    seen = set()
    while waiting:
        error = waiting.pop(0)
        waiting += error.__subclasses__()
        if error.code not in seen and error.__module__ == "realtime.errors":
            seen.add(error.code)
            yield error


def errors_table() -> str:
    """The table of refusals in docs/clients.rst."""
    rows = [(f"``{error.code}``", "yes" if error.temporary else "", error.default) for error in refusals()]
    return table(("code", "temporary", "message"), rows)


def rows_below(text: str, heading: str) -> list[list[str]]:
    """The cells of the simple table whose heads begin with `heading`; rows that continue one are joined."""
    found = re.search(rf"^(=+ .*)\n{re.escape(heading)}.*\n\1\n(.*?)\n\1$", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise AssertionError(f"no table that begins with {heading!r}")
    columns = [match.span() for match in re.finditer("=+", found[1])]
    rows: list[list[str]] = []
    for line in found[2].splitlines():
        ends = [*(start for start, _ in columns[1:]), None]
        cells = [line[start:end].strip() for (start, _), end in zip(columns, ends, strict=True)]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
    return rows


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of one language."""
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:(?: {{4}}.*)?\n)+)", text, re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


class TableTests(SynchronousTestCase):
    def test_refusals(self) -> None:
        """docs/clients.rst has the table of all refusals, as the code makes it."""
        self.assertIn(f"\n{errors_table()}\n", page("docs/clients.rst"), f"it has to be\n{errors_table()}")

    def test_uris(self) -> None:
        """docs/wamp.rst has the URI of each refusal that has a standard one."""
        wanted = table(("code", "URI"), [(f"``{code}``", f"``{uri}``") for code, uri in STANDARD.items()])
        self.assertIn(f"\n{wanted}\n", page("docs/wamp.rst"), f"it has to be\n{wanted}")

    def test_closes(self) -> None:
        """docs/clients.rst has each close with its number, its word, and whether clients come back."""
        documented = {
            int(number): (word.strip("`"), back)
            for number, word, back, _ in rows_below(page("docs/clients.rst"), "number")
        }
        told = {close.number: (close.reason, "yes" if close.comes_back else "no") for close in Close}
        self.assertEqual(documented, told)

    def test_refusals_of_the_http_api(self) -> None:
        """docs/http.rst gives each code with the status that it has."""
        statuses = {error.code: str(error.status) for error in refusals()}
        rows = rows_below(page("docs/http.rst"), "status code")
        self.assertGreater(len(rows), 5)
        for status, code, _ in rows:
            self.assertEqual(statuses.get(code.strip("`")), status, code)

    def test_log_lines(self) -> None:
        """docs/logs.rst has each line that the service logs by itself under its kind, with its fields."""
        found = re.findall(
            r"^(\w+)\n\.+\n|^``(.+?)`` \(((?:``\w+``(?:, )?)*)\)\n {4}\S",
            page("docs/logs.rst"),
            re.MULTILINE,
        )
        documented = {}
        kind = ""
        for head, message, fields in found:
            kind = head.lower() or kind
            if message:
                documented[message] = (kind, sorted(re.findall(r"\w+", fields)))
        self.assertEqual(documented, logged())

    def test_log_kinds(self) -> None:
        """docs/logs.rst has the kinds of lines, and how many of each there may be."""
        kinds = [cells[0].strip("`") for cells in rows_below(page("docs/logs.rst"), "``kind``")]
        self.assertEqual(kinds, list(KINDS))
        bounds = (
            f"at most {MESSAGES} of messages, {TRACED} of traces, {SLOW} of what\nwas slow,"
            f" {LINES} of security"
        )
        self.assertIn(bounds, page("docs/logs.rst"))

    def test_attacks(self) -> None:
        """SECURITY.rst names for each attack a test that there is."""
        rows = rows_below(page("SECURITY.rst"), "attack")
        self.assertGreater(len(rows), 30)
        for attack, answer, test in rows:
            self.assertTrue(answer, attack)
            name = test.strip("`")
            self.assertTrue(callable(namedAny(name)), name)

    def test_health_causes(self) -> None:
        """docs/operating.rst names the causes that make a node unready, phases and those of the bus."""
        causes = {phase.value for phase in Phase} - {"serving"} | {"memory_limit"}
        for broker in ("memory", "redis"):
            source = ast.parse(page(f"realtime/broker/{broker}.py"))
            (method,) = (
                node
                for node in ast.walk(source)
                if isinstance(node, ast.FunctionDef) and node.name == "causes"
            )
            causes |= {
                node.value
                for node in ast.walk(method)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
        self.assertGreaterEqual(causes, {"starting", "draining", "broker_unavailable", "redis_unavailable"})
        for cause in causes:
            self.assertIn(f"``{cause}``", page("docs/operating.rst"))


def logged() -> dict[str, tuple[str, list[str]]]:
    """The messages of all log calls that are no failures, each with its kind and its fields."""
    found = {}
    for path in sorted((ROOT / "realtime").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("info", "warn", "error", "critical")
                and ast.unparse(node.func.value) in ("log", "_log", "self._log")
            ):
                message = ast.literal_eval(node.args[0])
                fields = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
                other = "error" if node.func.attr in ("error", "critical") else "service"
                kind = ast.literal_eval(fields.pop("kind")) if "kind" in fields else other
                found[message] = (kind, sorted(fields))
    return found


class NameTests(SynchronousTestCase):
    """What the pages name exists."""

    def each(self, pattern: str) -> Iterator[tuple[str, str]]:
        """What a pattern finds in the pages: the page, and the first group."""
        found = [(str(name), match[1]) for name in PAGES for match in re.finditer(pattern, page(name))]
        self.assertNotEqual(found, [], pattern)
        yield from found

    def test_settings(self) -> None:
        for name, word in self.each(r"(?<![\w-])([A-Z]+(?:_[A-Z]+)+)(?![\w-])"):
            self.assertIn(word, {*SETTINGS, *NO_SETTINGS}, f"{name}: {word}")

    def test_defaults(self) -> None:
        """The default that a page gives in brackets behind a setting is the setting's."""
        units = {"": 1, " s": 1000, " MB": 1_000_000}
        rounded = {4_194_304: 4_000_000, 8_388_608: 8_000_000, 268_435_456: 256_000_000}
        for name, found in self.each(rf"\b((?:{'|'.join(SETTINGS)}) \(\d+(?: s| MB|)[);,])"):
            word, number, unit = re.fullmatch(r"(\w+) \((\d+)(.*).", found).groups()  # type: ignore[union-attr]
            default = int(SETTINGS[word].default)
            self.assertIn(int(number) * units[unit], (default, rounded.get(default)), f"{name}: {found}")

    def test_options(self) -> None:
        known = {*map(option, SETTINGS), *NO_OPTIONS}
        for name, word in self.each(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)\b"):
            self.assertIn(word, known, f"{name}: {word}")

    def test_events(self) -> None:
        pattern = rf"(?<![\w{{:/-])((?:{EVENT_KINDS}):[a-z_]+)(?![\w:{{|*])"
        for name, word in self.each(pattern):
            self.assertIn(word, {*SERVER_EVENTS, *CLIENT_EVENTS}, f"{name}: {word}")

    def test_metrics(self) -> None:
        registered = set()
        parent = WorkerMetrics(2, lambda: 2.0)
        for metric in (*Metrics().registry.collect(), *parent.registry.collect()):
            registered |= {metric.name, f"{metric.name}_total" if metric.type == "counter" else metric.name}
        for name, word in self.each(r"\b(realtime_(?!plugin|pb2)[a-z_]+)"):
            self.assertIn(word, registered, f"{name}: {word}")

    def test_error_codes(self) -> None:
        codes = {error.code for error in refusals()} | {close.reason for close in Close}
        procedures = {name.replace(":", ".") for name in (*SERVER_EVENTS, *CLIENT_EVENTS)}
        kinds = "|".join(sorted({code.partition(".")[0] for code in codes if "." in code}))
        for name, word in self.each(rf"``((?:{kinds})\.[a-z_]+)``"):
            self.assertIn(word, codes | procedures, f"{name}: {word}")

    def test_links(self) -> None:
        """Links between the pages lead to a page."""
        for name, target in self.each(r"<((?![a-z]+:)[^<> ]+\.\w+)>`_"):
            self.assertTrue((ROOT / name).parent.joinpath(target).is_file(), f"{name}: {target}")


class ExampleTests(SynchronousTestCase):
    def test_javascript(self) -> None:
        """Every block of JavaScript is a module that Node can parse."""
        node = shutil.which("node")
        if node is None:
            raise SkipTest("node is not installed")
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        checked = 0
        for name in PAGES:
            for block in blocks(page(name), "js"):
                checked += 1
                path = folder / f"{name.stem}-{checked}.mjs"
                path.write_text(block, encoding="utf-8")
                done = subprocess.run(
                    [node, "--check", str(path)], capture_output=True, text=True, check=False
                )
                self.assertEqual(done.returncode, 0, f"{name}:\n{block}\n{done.stderr}")
        self.assertGreater(checked, 8)

    def test_python(self) -> None:
        """Every block of Python can be parsed."""
        found = [block for name in PAGES for block in blocks(page(name), "python")]
        self.assertNotEqual(found, [])
        for block in found:
            ast.parse(block)
