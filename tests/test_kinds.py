"""Tests of kinds of setting."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime import kinds
from realtime.kinds import Kind, choice, integer, matching, milliseconds, secret, several


class KindTests(SynchronousTestCase):
    """Each kind accepts what it says, and shows a value as it is written."""

    def accepts(self, kind: Kind, *cases: tuple[str, object]) -> None:
        for text, value in cases:
            with self.subTest(text=text):
                parsed = kind.parse(text)
                self.assertEqual(parsed, value)
                self.assertEqual(kind.parse(kind.show(parsed)), parsed)

    def refuses(self, kind: Kind, *texts: str) -> None:
        for text in texts:
            with self.subTest(text=text):
                self.assertRaises(ValueError, kind.parse, text)

    def test_integer(self) -> None:
        """Both bounds are accepted; only ASCII digits are digits."""
        kind = integer(3, 9000)
        self.accepts(kind, ("3", 3), ("9000", 9000), ("0042", 42))
        self.refuses(kind, "", "2", "9001", "-5", "+5", "5.0", "5e1", "1_0", "0x5", "٤٢", "5 ", "9" * 20)
        self.assertEqual(kind.accepted, "a whole number from 3 to 9000")

    def test_milliseconds(self) -> None:
        """Written in milliseconds, kept in seconds."""
        kind = milliseconds(1, 60000)
        self.accepts(kind, ("1", 0.001), ("25000", 25.0), ("1234", 1.234))
        self.refuses(kind, "0", "60001", "1.5", "25s")
        self.assertIsInstance(kind.parse("25000"), float)

    def test_milliseconds_survive_being_shown(self) -> None:
        """No value is rounded away."""
        kind = milliseconds(1)
        for number in (*range(1, 3000), 86_399_999, kinds.DAY):
            self.assertEqual(kind.show(kind.parse(str(number))), str(number))

    def test_boolean(self) -> None:
        self.accepts(kinds.BOOLEAN, *((text, True) for text in ("true", "1", "YES", "on")))
        self.accepts(kinds.BOOLEAN, *((text, False) for text in ("False", "0", "no", "off")))
        self.refuses(kinds.BOOLEAN, "2", "y", "enabled", "")

    def test_choice(self) -> None:
        kind = choice("red", "blue")
        self.accepts(kind, ("red", "red"), ("blue", "blue"))
        self.refuses(kind, "Red", "redblue", "")
        self.assertEqual(kind.accepted, "red or blue")

    def test_matching(self) -> None:
        """The whole text must match, a newline at its end too."""
        self.accepts(matching("[a-z]+", "word", "letters"), ("abc", "abc"))
        self.refuses(matching("[a-z]+", "word", "letters"), "abc\n", "1abc", "abc1")

    def test_secret(self) -> None:
        """Length counts in bytes."""
        self.accepts(secret(4), ("abcd", "abcd"), ("éé", "éé"))
        self.refuses(secret(4), "abc", "é")

    def test_several(self) -> None:
        """Separated by commas; blanks around, empty parts and repetitions do not count."""
        kind = several(integer(1, 9))
        self.accepts(kind, ("1", (1,)), ("1, 2,,3 ,1", (1, 2, 3)), (",", ()))
        self.refuses(kind, "1,x", "1 2")

    def test_address(self) -> None:
        self.accepts(
            kinds.ADDRESS,
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "0.0.0.0"),
            ("::", "::"),
            ("localhost", "127.0.0.1"),
            ("0:0:0:0:0:0:0:1", "::1"),
        )
        self.refuses(kinds.ADDRESS, "example.com", "256.0.0.1", "127.0.0.1:80", "*")

    def test_path(self) -> None:
        """Slashes at the end do not count."""
        self.accepts(
            kinds.PATH,
            ("/socket.io", "/socket.io"),
            ("/socket.io/", "/socket.io"),
            ("/a/b_c-d~e//", "/a/b_c-d~e"),
        )
        self.refuses(
            kinds.PATH, "socket.io", "/", "", "//a", "/a//b", "/a b", "/a?b", "/a/../b", "/%61", "/ä"
        )

    def test_origin(self) -> None:
        """Kept as browsers write it: lower case, without the scheme's own port."""
        self.accepts(
            kinds.ORIGIN,
            ("https://example.com", "https://example.com"),
            ("HTTPS://Example.COM", "https://example.com"),
            ("https://example.com:443", "https://example.com"),
            ("http://example.com:443", "http://example.com:443"),
            ("http://example.com:0080", "http://example.com"),
            ("https://*.example.com", "https://*.example.com"),
            ("http://localhost:*", "http://localhost:*"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
            ("capacitor://localhost", "capacitor://localhost"),
        )

    def test_origin_refused(self) -> None:
        """What no browser sends as an origin could never match."""
        self.refuses(
            kinds.ORIGIN,
            *("*", "null", "", "example.com", "//example.com", "https://", "https://example.com/"),
            *("https://example.com/path", "https://user@example.com", "https://exa mple.com"),
            *("https://a.*.example.com", "https://*", "https://*example.com", "https://**.example.com"),
            *("https://example.com:", "https://example.com:0", "https://example.com:65536"),
            *("https://example.com:8*", "http://[::1", "http://[1:2]", "http://::1", "https://-a.com"),
            *("https://.example.com", "https://exämple.com", "https://example.com\n"),
        )
