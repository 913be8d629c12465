"""Tests that what a mirror knows of projects is taken for releases only where it is of them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from .releases import Releases, needed

INDEX = "https://index.example/pypi"


class Answer:
    """An index's answer."""

    def __init__(self, status_code: int, told: Any = None) -> None:
        self.status_code = status_code
        self._told = told

    def json(self) -> Any:
        return self._told


def newest(version: str) -> Answer:
    return Answer(200, {"info": {"version": version}, "vulnerabilities": [{"id": "V-1"}]})


class Index:
    """Answers with what it has."""

    def __init__(self, pages: dict[str, Answer]) -> None:
        self._pages = pages

    def get(self, url: str, timeout: int) -> Answer:
        return self._pages.get(url.removeprefix(INDEX), Answer(404))


class ReleasesTests(SynchronousTestCase):
    def test_release(self) -> None:
        """An index that knows the release is taken at its word."""
        index = Index({"/spam/1.0/json": Answer(200, "the release"), "/spam/json": newest("1.0")})
        self.assertEqual(Releases(index).get(f"{INDEX}/spam/1.0/json", 1).json(), "the release")

    def test_newest(self) -> None:
        """Else what is told of the project stands for its newest release, however that is written."""
        index = Index({"/spam/json": newest("1.0")})
        for version in ("1.0", "1.0.0"):
            told = Releases(index).get(f"{INDEX}/spam/{version}/json", 1).json()
            self.assertEqual(told["vulnerabilities"], [{"id": "V-1"}])

    def test_older(self) -> None:
        """But for no other release, and nothing stands for a project that is not known."""
        index = Index({"/spam/json": newest("1.1")})
        self.assertEqual(Releases(index).get(f"{INDEX}/spam/1.0/json", 1).status_code, 404)
        self.assertEqual(Releases(index).get(f"{INDEX}/eggs/1.0/json", 1).status_code, 404)

    def test_errors_stay(self) -> None:
        """An index that fails is no index that knows of nothing."""
        index = Index({"/spam/1.0/json": Answer(503), "/spam/json": newest("1.0")})
        self.assertEqual(Releases(index).get(f"{INDEX}/spam/1.0/json", 1).status_code, 503)


class NeededTests(SynchronousTestCase):
    def test_realtime(self) -> None:
        """What runs, with what that needs in turn, and by its extras; not what only tests need."""
        names = needed("realtime")
        self.assertLessEqual({"twisted", "autobahn", "pyjwt", "cffi", "pyopenssl"}, names)
        self.assertEqual({"realtime", "hypothesis", "ruff", "aiohttp"} & names, set())
        self.assertIn("hypothesis", needed("realtime", ["test"]))
