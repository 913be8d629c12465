"""Every decoder takes the kept corpus, and mutations of it, with nothing but typed refusals.

The long form is ``make fuzz``: guided by coverage, minutes for each decoder.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ..generated import unhurried
from .decoders import DECODERS

CORPUS = Path(__file__).parent / "corpus"

#: Mutations of each decoder's corpus.
MUTATIONS = 1500

NASTY = (b"1e999", b"99999999999999999999", b"null", b"\xed\xa0\x80", b"[" * 300, "\u0301".encode() * 40)


def mutated(random: Random, data: bytes) -> bytes:
    """The data with one to three small changes."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 3)):
        at = random.randint(0, len(changed))
        kind = random.randrange(5)
        if kind == 0:
            changed[at:at] = bytes(random.choices(b'{}[]":,0-b\n\x00\xff\\u*', k=random.randint(1, 8)))
        elif kind == 1 and changed:
            del changed[at : at + random.randint(1, 16)]
        elif kind == 2 and at < len(changed):
            changed[at] ^= 1 << random.randrange(8)
        elif kind == 3:
            changed[at:at] = changed[: random.randint(0, 64)]
        else:
            changed[at:at] = random.choice(
                (b"1e999", b"99999999999999999999", b"null", b"\xed\xa0\x80", b"[" * 300)
            )
    return bytes(changed)


class DecoderTests(SynchronousTestCase):
    def corpus(self, name: str) -> list[bytes]:
        return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]

    def test_corpus(self) -> None:
        """What was found before."""
        for name, decode in DECODERS.items():
            inputs = self.corpus(name)
            self.assertGreater(len(inputs), 5, name)
            for data in inputs:
                decode(data)

    def test_seeded(self) -> None:
        """Mutations of it, from a fixed seed."""
        for name, decode in DECODERS.items():
            random = Random(name)
            inputs = self.corpus(name)
            for _ in range(MUTATIONS):
                decode(mutated(random, random.choice(inputs)))

    @unhurried
    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        for decode in DECODERS.values():
            decode(data)
