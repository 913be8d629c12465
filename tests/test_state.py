"""Tests of the state file of development mode."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from realtime import state


class StateTests(SynchronousTestCase):
    """The file is made once, by whoever is first, for its owner's eyes only."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.path = str(folder / "state")

    def write(self, content: str, mode: int = 0o600) -> None:
        Path(self.path).write_text(content)
        os.chmod(self.path, mode)

    def test_missing(self) -> None:
        """Reading makes nothing."""
        self.assertIsNone(state.read(self.path))
        self.assertFalse(os.path.exists(self.path))

    def test_make(self) -> None:
        """Three long secrets, none like another, in a file that only its owner reads."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        made = state.make(self.path)
        self.assertEqual(set(made), set(state.NAMES))
        self.assertEqual(len(set(made.values())), 3)
        for value in made.values():
            self.assertRegex(value, r"\A[A-Za-z0-9_-]{32,}\Z")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(state.read(self.path), made)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["state"])

    def test_make_again(self) -> None:
        """A file that is there stays."""
        self.assertEqual(state.make(self.path), state.make(self.path))

    def test_make_at_once(self) -> None:
        """Whoever makes it at the same time, all get the same values."""
        found: list[Mapping[str, str]] = []
        start = threading.Barrier(8)

        def make() -> None:
            start.wait()
            found.append(state.make(self.path))

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [found[0]] * 8)

    def test_made_anew(self) -> None:
        """Another file has other secrets."""
        self.assertNotEqual(state.make(self.path), state.make(self.path + "2"))

    def test_others_may_read(self) -> None:
        """A file that others can read or write is not used."""
        made = state.make(self.path)
        for mode in (0o640, 0o604, 0o620, 0o601):
            os.chmod(self.path, mode)
            error = self.assertRaises(state.StateError, state.read, self.path)
            self.assertIn("chmod 600", str(error))
        os.chmod(self.path, 0o400)
        self.assertEqual(state.read(self.path), made)

    def test_broken(self) -> None:
        """A file with other content is neither used nor replaced."""
        good = dict.fromkeys(state.NAMES, "x" * 32)
        for content in (
            *("", "{", "[]", "null", '"text"', "{}", "[" * 60000, "\ud7ff"),
            json.dumps({**good, "API_KEY": "x" * 31}),
            json.dumps({**good, "API_KEY": 32}),
            json.dumps({name: good[name] for name in state.NAMES[:2]}),
        ):
            with self.subTest(content=content[:40]):
                self.write(content)
                self.assertRaises(state.StateError, state.read, self.path)
                error = self.assertRaises(state.StateError, state.make, self.path)
                self.assertIn("delete it", str(error))
                self.assertEqual(Path(self.path).read_text(), content)
        self.write(json.dumps(good))
        self.assertEqual(state.read(self.path), good)

    def test_not_utf8(self) -> None:
        Path(self.path).write_bytes(b"\xff\xfe")
        os.chmod(self.path, 0o600)
        self.assertRaises(state.StateError, state.read, self.path)

    def test_no_file(self) -> None:
        """A directory or a pipe in its place is told, and waited for never."""
        os.mkdir(self.path)
        self.assertRaises(state.StateError, state.read, self.path)
        os.rmdir(self.path)
        os.mkfifo(self.path, 0o600)
        told: list[str] = []

        def read() -> None:
            try:
                state.read(self.path)
            except state.StateError as error:
                told.append(str(error))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(30)
        self.assertEqual(told, ["is not a file"])

    def test_no_folder(self) -> None:
        """A folder that is missing is not made."""
        error = self.assertRaises(state.StateError, state.make, self.path + "/deep/state")
        self.assertIn("No such file", str(error))
