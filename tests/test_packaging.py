"""Tests that twistd finds the plugin in every way of installing that the README promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
TWISTD = "from twisted.scripts.twistd import run; run()"
#: The packages that this process runs with, seen from an environment that is empty otherwise.
LIBRARIES = sysconfig.get_path("purelib")


class PackagingCase(SynchronousTestCase):
    """Works on a copy of the checkout: a build writes beside its sources, and twistd beside its plugins."""

    timeout = 240

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.checkout = self.folder / "checkout"
        self.checkout.mkdir(parents=True)
        self.elsewhere = self.folder / "elsewhere"
        self.elsewhere.mkdir()
        unwanted = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.so")
        for name in ("realtime", "twisted"):
            shutil.copytree(ROOT / name, self.checkout / name, ignore=unwanted)
        for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.rst", "LICENSE"):
            shutil.copy(ROOT / name, self.checkout)

    def run_python(self, *arguments: str | Path, path: Sequence[str | Path] = (), **environ: str) -> str:
        """Run Python somewhere else than in the checkout, with its packages from `path`."""
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.elsewhere,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "PYTHONPATH": os.pathsep.join(map(str, path)),
                **environ,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def pip(self, *arguments: str | Path, **environ: str) -> None:
        """Build without the network: with the tools that are installed, without dependencies."""
        self.run_python(
            *("-m", "pip", *arguments, "--no-deps", "--no-build-isolation", "--no-index"),
            *("--disable-pip-version-check", "--quiet"),
            **environ,
        )

    def virtual_python(self) -> Path:
        """A new virtual environment that sees the packages of this one; its Python."""
        self.run_python("-m", "venv", "--without-pip", self.folder / "venv")
        (packages,) = (self.folder / "venv" / "lib").glob("python*/site-packages")
        (packages / "outer.pth").write_text(f"import site; site.addsitedir({LIBRARIES!r})\n")
        return self.folder / "venv" / "bin" / "python"

    def assert_found(self, python: Path | str = sys.executable, path: Sequence[Path] = ()) -> None:
        """twistd lists the plugin, and loads its options from the place that is meant."""
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PYTHONSAFEPATH": "1",
        }

        def output(*arguments: str) -> str:
            done = subprocess.run(
                [str(python), *arguments],
                cwd=self.elsewhere,
                env=environ,
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            return done.stdout

        self.assertRegex(output("-c", TWISTD, "--help"), r"\n    realtime +Holds the live connections")
        self.assertIn("--ws-ping-interval=", output("-c", TWISTD, "realtime", "--help"))
        where = output("-c", "import realtime; print(realtime.__file__)").strip()
        self.assertTrue(where.startswith(str(self.folder)), where)


class PluginTests(PackagingCase):
    """`twistd realtime` works from a wheel, from an editable install, and from a checkout."""

    def test_checkout(self) -> None:
        """A checkout in PYTHONPATH is enough."""
        self.assert_found(path=[self.checkout])

    def test_editable_install(self) -> None:
        """The install that ``make run`` makes: in setuptools' default mode twistd would find nothing."""
        python = self.virtual_python()
        self.pip(
            *("--python", python, "install", "--config-settings", "editable_mode=compat"),
            *("--editable", self.checkout),
        )
        self.assert_found(python)
        command = subprocess.run(
            [python.with_name("realtime"), "check"],
            cwd=self.elsewhere,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((command.stdout, command.stderr), ("send loop: native\nok\n", ""))

    def test_wheel(self) -> None:
        """The wheel holds the plugin, the command and all modules, and nothing of the tests."""
        self.pip("wheel", "--wheel-dir", self.folder, self.checkout)
        (wheel,) = self.folder.glob("*.whl")
        names = set(zipfile.ZipFile(wheel).namelist())
        ours = {
            str(path.relative_to(self.checkout))
            for path in (self.checkout / "realtime").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        self.assertEqual(ours - names, set())
        self.assertIn("twisted/plugins/realtime_plugin.py", names)
        self.assertEqual(len([name for name in names if name.endswith(".so")]), 1)
        self.assertEqual(
            {name.partition("/")[0] for name in names if ".dist-info/" not in name}, {"realtime", "twisted"}
        )
        self.assertEqual(
            [name for name in names if name.endswith("/__init__.py") and "twisted" in name], []
        )
        python = self.virtual_python()
        self.pip("--python", python, "install", wheel)
        self.assert_found(python)

    def test_no_compiler(self) -> None:
        """Where the send loop in C can't be built, the install goes on, and its pure twin runs."""
        self.pip("wheel", "--wheel-dir", self.folder, self.checkout, CC="/bin/false")
        (wheel,) = self.folder.glob("*.whl")
        self.assertEqual([name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")], [])
        self.run_python("-m", "zipfile", "-e", wheel, self.folder / "unpacked")
        check = "import sys; from realtime.cli import main; sys.argv[1:] = ['check']; sys.exit(main())"
        told = self.run_python("-c", check, path=[self.folder / "unpacked", LIBRARIES])
        self.assertEqual(told, "send loop: pure\nok\n")
