"""Fuzz one decoder, guided by coverage (atheris): ``python -m tests.fuzz DECODER SECONDS``.

It begins with the corpus in ``tests/fuzz/corpus/DECODER`` and adds to it what reaches new code. An
input that brings out anything but a typed refusal ends it with a traceback, and is kept beside the
corpus as ``crash-…``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["realtime"]):
    from tests.fuzz.decoders import DECODERS

CORPUS = Path(__file__).parent / "corpus"


def main(name: str, seconds: str) -> None:
    """Fuzz for so long."""
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={int(seconds)}",
        "-max_len=4096",
        "-timeout=5",
        f"-artifact_prefix={corpus}-",
        "-print_final_stats=1",
    ]
    atheris.Setup(options, DECODERS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:3])
