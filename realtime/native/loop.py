"""Which send loop runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

from . import pure
from .interface import ISendLoop, Short

_built: Any = None
with suppress(ImportError):
    # Built where there was a C compiler.
    _built = import_module("._send_loop", __package__)

#: Whether the send loop in C was built.
BUILT: Final = _built is not None


def in_c(built: Any) -> ISendLoop:
    """The loop of a module that `build` made."""
    new, call = built.ffi.new, built.lib.send_to_all

    def send_to_all(fds: Sequence[int], data: bytes) -> list[Short]:
        count, size = len(fds), len(data)
        taken = new("ptrdiff_t[]", count)
        if not call(fds, count, data, size, taken):
            return []
        return [(index, bytes_) for index, bytes_ in enumerate(taken) if bytes_ != size]

    return send_to_all


def choose(native: bool) -> tuple[str, ISendLoop]:
    """The send loop, and its name: ``native`` or ``pure``.

    :param native: whether that in C is to be used, if it was built.
    """
    if native and _built is not None:
        return "native", in_c(_built)
    return "pure", pure.send_to_all
