"""What setup.cfg can't say: the send loop in C, which is built where there is a compiler."""

import sys

from setuptools import setup

try:
    import cffi  # noqa: F401
except ImportError:
    print("cffi is not there: the send loop in C is not built, its pure twin runs", file=sys.stderr)
    setup()
else:
    setup(cffi_modules=["realtime/native/build.py:ffi"])
