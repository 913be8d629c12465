"""The send loop in C and its pure twin: one contract, and the choice between them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from realtime.native import loop, pure
from realtime.native.interface import BROKEN, ISendLoop

NOT_BUILT = "the send loop in C is not built; build it: .venv/bin/python -m realtime.native.build"

if TYPE_CHECKING:
    Base = SynchronousTestCase
else:
    Base = object


class SendLoopContract(Base):
    """What a send loop does."""

    send: ISendLoop

    def pairs(self, count: int) -> tuple[list[socket.socket], list[socket.socket]]:
        """So many sockets that don't block, and their peers."""
        pairs = [socket.socketpair() for _ in range(count)]
        for pair in pairs:
            for end in pair:
                end.setblocking(False)
                self.addCleanup(end.close)
        return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]

    def test_all_taken(self) -> None:
        """Each gets all, in one call."""
        ours, theirs = self.pairs(100)
        for data in (b"x", bytes(range(256)) * 16):
            self.assertEqual(self.send([one.fileno() for one in ours], data), [])
            self.assertEqual([one.recv(8192) for one in theirs], [data] * 100)

    def test_nobody(self) -> None:
        self.assertEqual(self.send([], b"x"), [])

    def test_nothing(self) -> None:
        ours, theirs = self.pairs(1)
        self.assertEqual(self.send([ours[0].fileno()], b""), [])
        self.assertRaises(BlockingIOError, theirs[0].recv, 1)

    def test_what_does_not_fit(self) -> None:
        """Of those that take a part, or nothing, it says how much; the others get all."""
        ours, theirs = self.pairs(4)
        big = bytes(range(256)) * 1024
        for full in ours[1:3]:
            full.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        filled = 0
        try:
            while True:
                filled += ours[2].send(b"y" * 4096)
        except BlockingIOError:
            pass
        for whole in (ours[0], ours[3]):
            whole.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        data = big[:100_000]
        short = dict(self.send([one.fileno() for one in ours], data))
        self.assertEqual(list(short), [1, 2])
        self.assertTrue(0 < short[1] < len(data), short)
        self.assertEqual(short[2], 0)
        expected = {0: data, 1: data[: short[1]], 2: b"y" * filled, 3: data}
        for index, wanted in expected.items():
            got = bytearray()
            while len(got) < len(wanted):
                got += theirs[index].recv(1 << 20)
            self.assertEqual(bytes(got), wanted)
            self.assertRaises(BlockingIOError, theirs[index].recv, 1)

    def test_broken(self) -> None:
        """Whose peer has gone, and what is no socket any more, harms nobody else."""
        ours, theirs = self.pairs(4)
        theirs[1].close()
        fds = [one.fileno() for one in ours]
        ours[2].close()
        self.assertEqual(self.send(fds, b"x"), [(1, BROKEN), (2, BROKEN)])
        self.assertEqual((theirs[0].recv(9), theirs[3].recv(9)), (b"x", b"x"))


class PureTests(SendLoopContract, SynchronousTestCase):
    """That in Python."""

    send = staticmethod(pure.send_to_all)


class NativeTests(SendLoopContract, SynchronousTestCase):
    """That in C."""

    def setUp(self) -> None:
        self.assertTrue(loop.BUILT, NOT_BUILT)
        _, self.send = loop.choose(True)


class ChoiceTests(SynchronousTestCase):
    """`choose`."""

    def test_choice(self) -> None:
        self.assertEqual(loop.choose(False), ("pure", pure.send_to_all))
        self.assertEqual(loop.choose(True)[0], "native", NOT_BUILT)

    def test_not_built(self) -> None:
        self.patch(loop, "_built", None)
        self.assertEqual(loop.choose(True), ("pure", pure.send_to_all))
