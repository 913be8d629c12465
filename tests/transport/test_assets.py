"""Tests of the files of our own pages: what is served, as what, and what the pages may load."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.transport.assets import FOLDER, Assets

from ..ingress.exchange import Answer, Exchange

PAGES = sorted(path.stem for path in FOLDER.glob("*.html"))


class AssetsTests(SynchronousTestCase):
    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return Exchange({"/try": Assets("try")}, Clock()).ask(method, path, headers)

    def test_page(self) -> None:
        """The page is HTML that may load from its own origin alone, may not be framed, and asks each time
        whether it is new."""
        answer = self.ask("/try/")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertEqual(answer.body, (FOLDER / "try.html").read_bytes())
        policy = answer.headers["content-security-policy"]
        self.assertIn("default-src 'self';", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertEqual(answer.headers["cache-control"], "no-cache")
        again = self.ask("/try/", **{"If-None-Match": answer.headers["etag"]})
        self.assertEqual((again.status, again.body), (304, b""))

    def test_files(self) -> None:
        """Scripts, styles and pictures are beside it, also in folders."""
        for path, kind in (
            ("try.js", "text/javascript; charset=utf-8"),
            ("clients/plain.js", "text/javascript; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("icon.svg", "image/svg+xml"),
        ):
            answer = self.ask(f"/try/{path}")
            self.assertEqual((answer.status, answer.headers["content-type"]), (200, kind))
            self.assertEqual(answer.body, (FOLDER / path).read_bytes())
            self.assertIn("content-security-policy", answer.headers)

    def test_slash(self) -> None:
        """Without the slash the browser is sent to where it is."""
        answer = self.ask("/try")
        self.assertEqual((answer.status, answer.headers["location"]), (308, "try/"))

    def test_nothing_else(self) -> None:
        for path in (
            *("/try/other.js", "/try/clients", "/try/clients/", "/try/clients/other.js", "/try/try.js/"),
            *("/try/../setup.cfg", "/try/%2e%2e/setup.cfg", "/try/..%2fsetup.cfg", "/try//style.css"),
            *("/try/console.html", "/other"),
        ):
            answer = self.ask(path)
            self.assertEqual((answer.status, answer.json["code"]), (404, "api.not_found"), path)

    def test_methods(self) -> None:
        head = self.ask("/try/", "HEAD")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(self.ask("/try/", "POST").status, 405)


class SourceTests(SynchronousTestCase):
    """What our pages are made of."""

    def test_pages(self) -> None:
        """No script or style stands in the page, and what it names is there."""
        for name in PAGES:
            text = (FOLDER / f"{name}.html").read_text()
            self.assertIsNone(re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text), name)
            for path in re.findall(r'(?:src|href)="([^"#]+)"', text):
                self.assertTrue((FOLDER / path).is_file(), path)

    def test_scripts(self) -> None:
        """Text is text: nothing makes HTML of it. What is imported is there, all of it ours."""
        for path in FOLDER.rglob("*.js"):
            text = path.read_text()
            self.assertIsNone(
                re.search(
                    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text
                ),
                path,
            )
            self.assertIsNone(re.search(r"localStorage|sessionStorage|\.cookie|indexedDB", text), path)
            for imported in re.findall(r'from "([^"]+)"', text):
                self.assertTrue((path.parent / imported).is_file(), f"{path}: {imported}")

    def test_no_outside(self) -> None:
        """No file names an address that a browser would load from."""
        for path in FOLDER.rglob("*.*"):
            for address in re.findall(r"https?://[^\s\"')]+", path.read_text()):
                self.assertEqual(address, "http://www.w3.org/2000/svg", path)

    def test_folder(self) -> None:
        self.assertIn("try", PAGES)
        self.assertEqual(FOLDER, Path(__file__).parents[2] / "realtime" / "console")
