"""How long and how large the fault tests are, and by which dice.

``FAULTS=full`` in the environment gives them their full form (``make faults``). ``FAULTS_SEED`` says what
the dice throw; without it the short form always throws the same, the full form anew each time. The seed
is printed with each test that uses dice.
"""

from __future__ import annotations

import os
import random
from typing import TypeVar

FULL = os.environ.get("FAULTS") == "full"
SEED = int(os.environ.get("FAULTS_SEED") or (random.randrange(1_000_000) if FULL else 1))

T = TypeVar("T")


def scaled(short: T, full: T) -> T:
    """The value for the form that is run."""
    return full if FULL else short


def dice(name: str) -> random.Random:
    """Dice of one test's own: the same seed throws the same, whichever tests run."""
    print(f"\n  FAULTS_SEED={SEED}", end="")
    return random.Random(f"{SEED} {name}")
