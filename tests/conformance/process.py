"""The conformance servers as processes of their own, each started once and ended with the tests."""

from __future__ import annotations

import atexit
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

_ROOT = Path(__file__).parents[2]


@cache
def port_of(name: str) -> int:
    """The port of ``python -m tests.conformance.NAME``, which is started if it does not run yet."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.conformance.{name}", "0"],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_end, process)
    assert process.stdout is not None
    listening = process.stdout.readline()
    port = urlsplit(listening.rpartition(" ")[2]).port
    if port is None:
        raise AssertionError(f"the server did not start: {listening!r}")
    return port


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
