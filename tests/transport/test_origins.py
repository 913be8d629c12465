from __future__ import annotations

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from realtime.transport.origins import Origins

from ..generated import unhurried


class OriginsTests(SynchronousTestCase):
    """Which pages are let in."""

    def check(self, pattern: str, allowed: list[str], refused: list[str]) -> None:
        origins = Origins([pattern])
        self.assertEqual([origin for origin in allowed if not origins.allows(origin)], [])
        self.assertEqual([origin for origin in refused if origins.allows(origin)], [])

    def test_exact(self) -> None:
        self.check(
            "https://app.example.com",
            ["https://app.example.com", "https://APP.example.com", "https://app.example.com:443"],
            [
                "http://app.example.com",
                "https://app.example.com:8443",
                "https://example.com",
                "https://x.app.example.com",
                "https://app.example.com.evil.example",
                "https://evil.example/https://app.example.com",
                "https://app.example.com@evil.example",
                "https://user@app.example.com",
                "https://app.example.com/",
                "https://app.example.com.",
                " https://app.example.com",
                "app.example.com",
                "null",
                "",
                "*",
            ],
        )

    def test_port(self) -> None:
        self.check(
            "http://localhost:8080",
            ["http://localhost:8080"],
            ["http://localhost", "http://localhost:80", "http://localhost:08080x"],
        )

    def test_any_port(self) -> None:
        self.check(
            "http://[::1]:*",
            ["http://[::1]", "http://[::1]:80", "http://[::1]:5173"],
            ["https://[::1]:5173", "http://[::2]:80", "http://[::1]:*"],
        )

    def test_below_a_host(self) -> None:
        self.check(
            "https://*.example.com",
            ["https://a.example.com", "https://a.b.example.com", "https://a.example.com:443"],
            [
                "https://example.com",
                "https://evilexample.com",
                "https://.example.com",
                "https://*.example.com",
                "https://a.example.com:444",
                "https://a.example.com.evil.example",
                "http://a.example.com",
            ],
        )
        self.check("https://*.example.com:*", ["https://a.example.com:444"], ["https://example.com:444"])

    def test_no_origin(self) -> None:
        """It is no page that asks, unless a browser says so; then it has to be the server's own."""
        for required in (False, True):
            origins = Origins([], required)
            self.assertEqual(origins.allows(None), not required)
            self.assertTrue(origins.allows(None, "same-origin"))
            for site in ("same-site", "cross-site", "none", ""):
                self.assertFalse(origins.allows(None, site), site)
            self.assertFalse(origins.allows("https://evil.example", "same-origin"))

    def test_wrong_patterns(self) -> None:
        for pattern in ("*", "null", "example.com", "https://a.*.com", "https://*", "https://*a.com", ""):
            self.assertRaises(ValueError, Origins, [pattern])

    @unhurried
    @given(strategies.text(max_size=60))
    def test_anything(self, origin: str) -> None:
        origins = Origins(["https://*.example.com", "http://localhost:*"])
        if origins.allows(origin):
            self.assertRegex(
                origin.lower(), r"\A(https://.+\.example\.com(:443)?|http://localhost(:\d+)?)\Z"
            )
