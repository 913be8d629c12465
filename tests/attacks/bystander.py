"""Bystander: a well-behaved client in a process of its own, which times its round trips.

``python -m tests.attacks.bystander PORT TOKEN SECONDS`` prints its times in milliseconds, as JSON:
``{count, median, p99, worst}``. A message that is not answered within 10 s, or refused, is an error.

A round trip ends when the kernel has the answer: how long the bystander then waits for a processor, which
it shares with who floods, is not the service's doing.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

from tests.clients.raw import frame, upgrade

#: Seconds between two messages.
PACE = 0.01

#: Linux's SO_TIMESTAMPNS: with what is received comes when the kernel got it, in seconds and nanoseconds.
SO_TIMESTAMPNS = 35
STAMP = struct.Struct("qq")


class Connection:
    """A Socket.IO connection over a blocking socket."""

    def __init__(self, port: int, token: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._data = b""
        self._received = 0.0
        self._socket.sendall(upgrade())
        self._until(b"\r\n\r\n")
        self._socket.sendall(frame(b"40" + json.dumps({"token": token}).encode()))
        self._until(b"system:connected")

    def round_trip(self, number: int) -> float:
        """Seconds until a message is acknowledged."""
        began = time.time()
        self._socket.sendall(frame(b'42%d["room:message",{"roomId":"quiet","text":"x"}]' % number))
        answer = self._until(b"43%d[" % number) + self._until(b"}]")
        taken = self._received - began
        if b'"ok":true' not in answer:
            raise SystemExit(f"refused: {answer!r}")
        return taken

    def join(self) -> None:
        self._socket.sendall(frame(b'420["room:join",{"roomId":"quiet"}]'))
        self._until(b"430[")

    def _until(self, text: bytes) -> bytes:
        while text not in self._data:
            # a ping of Engine.IO is answered when it comes past
            got, told, _, _ = self._socket.recvmsg(65536, 256)
            if not got:
                raise SystemExit("the connection was closed")
            seconds, nanoseconds = STAMP.unpack(told[0][2][: STAMP.size])
            self._received = seconds + nanoseconds / 1e9
            self._data += got
        before, found, self._data = self._data.partition(text)
        return before + found


def main(port: int, token: str, seconds: float) -> None:
    """Measure for so long."""
    connection = Connection(port, token)
    connection.join()
    times = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        times.append(connection.round_trip(len(times) + 1) * 1000)
        time.sleep(PACE)
    times.sort()
    told = {
        "count": len(times),
        "median": times[len(times) // 2],
        "p99": times[int(len(times) * 0.99)],
        "worst": times[-1],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
