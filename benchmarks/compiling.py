"""Programs in C beside these modules, compiled when they are wanted."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
NO_COMPILER = "the load generator needs a C compiler; install one: apt-get install gcc libc6-dev"


class NoCompiler(Exception):
    """There is no `cc`; the message says how to get one."""


def compiled(name: str, sources: Sequence[str], headers: Sequence[str] = ()) -> Path:
    """A program from sources in this folder; compiled anew when they or the headers have changed.

    :raises NoCompiler: there is no C compiler.
    """
    digest = hashlib.sha256()
    for file in (*sources, *headers):
        digest.update((HERE / file).read_bytes())
    made = HERE.parent / "build" / f"{name}-{digest.hexdigest()[:16]}"
    if made.exists():
        return made
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompiler(NO_COMPILER)
    made.parent.mkdir(exist_ok=True)
    part = made.with_name(f"{made.name}.{os.getpid()}")
    subprocess.run([compiler, *FLAGS, "-o", part, *(HERE / file for file in sources)], check=True)
    part.rename(made)
    return made
