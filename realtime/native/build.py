"""``python -m realtime.native.build``: build the send loop in C in its place, as installs do."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from cffi import FFI
from cffi.error import CDefError, VerificationError

_HERE: Final = Path(__file__).parent

ffi: Final = FFI()
ffi.cdef(
    "size_t send_to_all(const int *fds, size_t count, const char *data, size_t size, ptrdiff_t *taken);"
)
# An install goes on without it where there is no compiler.
ffi.set_source("realtime.native._send_loop", (_HERE / "send_loop.c").read_text(), optional=True)


def main() -> int:
    """Build it; 1 if that can't be done, which is no harm."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            built = ffi.compile(tmpdir=directory)
        except (CDefError, VerificationError, OSError) as error:
            print(f"the send loop in C was not built, its pure twin runs: {error}", file=sys.stderr)
            return 1
        shutil.copy(built, _HERE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
