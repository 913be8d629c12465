"""REDIS_URL: what is accepted, and what is said of the rest."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime.redis_url import RedisAddress, parse

ACCEPTED = {
    "redis://localhost": RedisAddress("single", (("localhost", 6379),)),
    "redis://localhost:6380/": RedisAddress("single", (("localhost", 6380),)),
    "redis://10.0.0.1:6379/0": RedisAddress("single", (("10.0.0.1", 6379),)),
    "REDIS://redis-service": RedisAddress("single", (("redis-service", 6379),)),
    "redis://[::1]:7000": RedisAddress("single", (("::1", 7000),)),
    "redis://:p%40ss@h": RedisAddress("single", (("h", 6379),), password="p@ss"),
    "redis://alice:a:b@h:1": RedisAddress("single", (("h", 1),), user="alice", password="a:b"),
    "redis://alice:p@ss@h": RedisAddress("single", (("h", 6379),), user="alice", password="p@ss"),
    "rediss://h": RedisAddress("single", (("h", 6379),), tls=True),
    "unix:///run/redis.sock": RedisAddress("unix", path="/run/redis.sock"),
    "unix://alice:p@/run/a@b%20c": RedisAddress("unix", path="/run/a@b c", user="alice", password="p"),
    "redis+sentinel://a,b:1,a/main": RedisAddress("sentinel", (("a", 26379), ("b", 1)), service="main"),
    "redis+sentinel://u:p@a/my-service.1": RedisAddress(
        "sentinel", (("a", 26379),), service="my-service.1", user="u", password="p"
    ),
    "rediss+sentinel://a/m": RedisAddress("sentinel", (("a", 26379),), service="m", tls=True),
    "redis+cluster://a:1,[2001:db8::1]:2,c": RedisAddress(
        "cluster", (("a", 1), ("2001:db8::1", 2), ("c", 6379))
    ),
    "rediss+cluster://:p@a/0": RedisAddress("cluster", (("a", 6379),), password="p", tls=True),
}
#: What is refused, and a part of what is said.
REFUSED = {
    "localhost:6379": "accepted is redis://",
    "redis:/localhost": "accepted is redis://",
    "http://localhost": "accepted is redis://",
    "redis://": "names no host",
    "redis://:6379": "names no host",
    "redis://a b": "names no host",
    "redis://h:0": "out of range",
    "redis://h:65536": "out of range",
    "redis://h:port": "names no host",
    "redis://a,b": "several hosts",
    "redis://h/3": "the database is always 0",
    "redis://h/x": "the database is always 0",
    "redis://h?db=3": "options",
    "redis://h#x": "options",
    "redis://alice@h": "no password",
    "redis://alice:@h": "without a password",
    "redis://:%ff@h": "not UTF-8",
    "redis+cluster://a,b/1": "only database 0",
    "redis+cluster://a,,b": "names no host",
    "redis+cluster://" + ",".join(f"h{number}" for number in range(65)): "at most 64",
    "redis+sentinel://a,b": "no service",
    "redis+sentinel://a/": "no service",
    "redis+sentinel://a/b/c": "no service",
    "unix://": "absolute path",
    "unix://run/redis.sock": "absolute path",
    "unix:///" + "x" * 108: "107 bytes",
}


class URLTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        for text, address in ACCEPTED.items():
            self.assertEqual(parse(text), address, text)

    def test_refused(self) -> None:
        for text, part in REFUSED.items():
            error = self.assertRaises(ValueError, parse, text)
            self.assertIn(part, str(error), text)
            self.assertIn("accepted is ", str(error), text)

    def test_password_wins(self) -> None:
        """REDIS_PASSWORD is taken, whatever the URL says, and completes a user."""
        self.assertEqual(parse("redis://:old@h", "new").password, "new")
        self.assertEqual(parse("redis://alice:@h", "new"), parse("redis://alice:new@h"))

    def test_no_secret_is_shown(self) -> None:
        """Neither what is read nor what is refused shows a user or a password."""
        self.assertNotIn("s3cret", repr(parse("redis://al1ce:s3cret@h")))
        self.assertNotIn("al1ce", repr(parse("redis://al1ce:s3cret@h")))
        for text in ("redis://al1ce:s3cret@h/7", "redis://:s3cret@", "s3cret", "redis://s3cret@h:0"):
            self.assertNotIn("s3cret", str(self.assertRaises(ValueError, parse, text)))
