"""The state file of development mode: secrets made once, that server and command line both read."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from typing import Final

#: The settings that the file holds, each at least 32 bytes of URL-safe text.
NAMES: Final = ("JWT_SECRET", "JWT_REFRESH_SECRET", "API_KEY")


class StateError(Exception):
    """The state file can't be used; the text says why and what to do."""


def read(path: str) -> Mapping[str, str] | None:
    """The values of `NAMES`; None if there is no such file.

    :raises StateError: others may read the file, or it does not hold what it should.
    """
    try:
        with open(path, "rb", opener=_opener) as file:
            status = os.fstat(file.fileno())
            content = file.read(65536)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"can't be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise StateError("is not a file")
    if status.st_mode & 0o077:
        raise StateError("others may read its secrets: chmod 600, or delete it and a new one is made")
    return _values(content)


def _opener(path: str, flags: int) -> int:
    # a pipe under this name must not hold up the start
    return os.open(path, flags | os.O_NONBLOCK)


def _values(content: bytes) -> Mapping[str, str]:
    try:
        found = json.loads(content)
        values = {name: found[name] for name in NAMES}
    except (ValueError, LookupError, TypeError, RecursionError):
        values = {}
    if not all(isinstance(value, str) and len(value) >= 32 for value in values.values()) or not values:
        raise StateError("its content is broken: delete it and a new one is made")
    return values


def make(path: str) -> Mapping[str, str]:
    """Make the file with fresh values, unless another process is quicker: then the values are its.

    The file appears whole or not at all.

    :raises StateError: it can't be written.
    """
    fresh = {name: secrets.token_urlsafe(36) for name in NAMES}
    try:
        folder = os.path.dirname(os.path.abspath(path))
        handle, draft = tempfile.mkstemp(prefix=".realtime-", dir=folder)  # O_EXCL and mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(fresh, file, indent=1)
                file.write("\n")
            # unlike a rename, a link never replaces what another process has made meanwhile
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            os.unlink(draft)
    except OSError as error:
        raise StateError(f"can't be made ({error.strerror})") from error
    values = read(path)
    if values is None:
        raise StateError("went away while it was made")
    return values
