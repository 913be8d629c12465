"""Python runs this at the start of a node whose PYTHONPATH begins here: it can be made to fail.

``SABOTAGE`` is a comma separated list of ``module:Class.method``: every third call of each raises.
SIGUSR2 blocks the process for ``SABOTAGE_BLOCK`` seconds.
"""

import functools
import importlib
import os
import signal
import time

EVERY = 3


def sabotage(target):
    module, _, path = target.partition(":")
    owner, _, name = path.partition(".")
    held = getattr(importlib.import_module(module), owner)
    works = getattr(held, name)
    calls = 0

    @functools.wraps(works)
    def fails(*args, **more):
        nonlocal calls
        calls += 1
        if calls % EVERY == 0:
            raise RuntimeError("sabotage")
        return works(*args, **more)

    setattr(held, name, fails)


for one in filter(None, os.environ.get("SABOTAGE", "").split(",")):
    sabotage(one)
signal.signal(signal.SIGUSR2, lambda *_: time.sleep(float(os.environ.get("SABOTAGE_BLOCK", "2"))))
