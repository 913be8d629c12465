"""The configuration file: what it may say, what is told of what it may not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from realtime.config_file import (
    MAX_FILE,
    Config,
    ContentRule,
    EventLimit,
    KeyRule,
    LimitRules,
    RoomRule,
    RouteRule,
    SpamRule,
    load,
)
from realtime.settings import ConfigError

WHOLE = """
reserved = ["staff:"]

[[rooms]]
pattern = "event:*"
join = ["granted", "role:guest", "user:bob"]
publish = ["role:host"]
history = ["everyone"]
presence = ["nobody"]
filter = "mask"

[[rooms]]
pattern = "lobby"

[[routes]]
service = "booking"
audience = "everyone"

[[api_keys]]
name = "booking"
sha256 = "%s"
channels = ["booking:*"]
scopes = ["publish", "read"]
until = 2030-01-31T12:00:00Z

[content]
mode = "reject"
languages = ["en"]
words = ["one"]
word_files = ["words.txt"]
allow = ["scunthorpe"]
patterns = ['\\d{16}']

[spam]
enabled = true
threshold = 5.5

[limits.events]
"room:join" = { messages = 20, window_ms = 10000 }
""" % ("ab" * 32)


class ConfigFileTests(SynchronousTestCase):
    """`load`."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def load(self, text: str) -> Config:
        path = self.folder / "realtime.toml"
        path.write_text(text)
        return load(str(path))

    def faults(self, text: str) -> list[str]:
        error = self.assertRaises(ConfigError, self.load, text)
        found = []
        for fault in error.faults:
            head, _, rest = fault.partition("realtime.toml': ")
            self.assertTrue(head.startswith("REALTIME_CONFIG='"), fault)
            found.append(rest)
        return found

    def test_nothing(self) -> None:
        """No file, and an empty one, say the same."""
        self.assertEqual(load(""), Config())
        self.assertEqual(self.load("# nothing\n"), Config())

    def test_everything(self) -> None:
        (self.folder / "words.txt").write_text("two\n\n # a comment\n  three \n")
        self.assertEqual(
            self.load(WHOLE),
            Config(
                rooms=(
                    RoomRule(
                        "event:*",
                        ("granted", "role:guest", "user:bob"),
                        ("role:host",),
                        ("everyone",),
                        ("nobody",),
                        "mask",
                    ),
                    RoomRule("lobby"),
                ),
                routes=(RouteRule("booking", "everyone"),),
                api_keys=(
                    KeyRule(
                        "booking",
                        "ab" * 32,
                        ("booking:*",),
                        ("publish", "read"),
                        datetime(2030, 1, 31, 12, tzinfo=UTC),
                    ),
                ),
                reserved=("staff:",),
                content=ContentRule(
                    "reject",
                    ("en",),
                    ("one", "two", "three"),
                    ("words.txt",),
                    ("scunthorpe",),
                    (),
                    ("\\d{16}",),
                ),
                spam=SpamRule(True, 5.5),
                limits=LimitRules({"room:join": EventLimit(20, 10000)}),
            ),
        )

    def test_unknown_keys_name_the_nearest(self) -> None:
        for text, at, near in (
            ("rooom = 1", "rooom", "rooms"),
            ("[contents]", "contents", "content"),
            ('[[rooms]]\npattern = "a"\njoins = []', "rooms[0].'joins'", "join"),
            ("[content]\nword_file = []", "content.'word_file'", "word_files"),
            ('[limits.events]\n"room:join" = {message = 1}', "limits.events[...].'message'", "messages"),
            ('[limits.events]\n"room:jon" = {messages = 1}', "limits.events.'room:jon'", "room:join"),
        ):
            (fault,) = self.faults(text)
            self.assertTrue(fault.startswith(at), fault)
            self.assertIn(f"did you mean {near}?", fault)
        self.assertIn("accepted are content, ", self.faults("zzzzzz = 1")[0])

    def test_all_faults_at_once(self) -> None:
        text = '[[rooms]]\npattern = 5\n[[rooms]]\n[[routes]]\nservice = "x"\naudience = "all"\n'
        faults = self.faults(text)
        self.assertEqual(
            [fault.partition(":")[0] for fault in faults],
            ["rooms[0].pattern", "rooms[1]", "routes[0].audience"],
        )

    def test_wrong_values(self) -> None:
        key = f'[[api_keys]]\nname = "a"\nsha256 = "{"0" * 64}"\n'
        for text, told in (
            ('[[rooms]]\npattern = "a*b"', "rooms[0].pattern"),
            ('[[rooms]]\npattern = "a b"', "rooms[0].pattern"),
            ('[[rooms]]\npattern = "a"\njoin = ["staff"]', "rooms[0].join"),
            ('[[rooms]]\npattern = "a"\njoin = ["role:"]', "rooms[0].join"),
            ('[[rooms]]\npattern = "a"\nfilter = "delete"', "rooms[0].filter"),
            ('[[routes]]\nservice = "user"\naudience = "everyone"', "routes[0].service"),
            ('[[api_keys]]\nname = "a"\nsha256 = "secret"', "api_keys[0].sha256"),
            (key + "until = 2030-01-31T12:00:00", "api_keys[0].until"),
            (key + key, "api_keys[1].name"),
            ('reserved = ["a b"]', "reserved[0]"),
            ("rooms = 1", "rooms"),
            ("reserved = 1", "reserved"),
            ("[spam]\nthreshold = -1", "spam.threshold"),
        ):
            (fault,) = self.faults(text)
            self.assertTrue(fault.startswith(f"{told}:"), fault)

    def test_files(self) -> None:
        self.assertIn("it is not TOML", self.faults("a = ")[0])
        error = self.assertRaises(ConfigError, load, str(self.folder / "missing.toml"))
        self.assertIn("can't be read (No such file or directory)", str(error))
        error = self.assertRaises(ConfigError, self.load, '[content]\nword_files = ["missing.txt"]')
        self.assertIn("missing.txt", str(error))
        self.assertIn("over", str(self.assertRaises(ConfigError, self.load, "#" * (MAX_FILE + 1))))
        path = self.folder / "latin.toml"
        path.write_bytes(b"# \xff")
        self.assertIn("not UTF-8", str(self.assertRaises(ConfigError, load, str(path))))
        (self.folder / "long.txt").write_text("x" * 201)
        self.assertIn("200", self.faults('[content]\nword_files = ["long.txt"]')[0])

    def test_deep(self) -> None:
        """What nests too deep is a fault, not a traceback."""
        self.assertTrue(self.faults("rooms = " + "[" * 5000 + "]" * 5000))
