"""Tests for realtime.wire.wamp_errors: every refusal and every close has a URI that clients take."""

from __future__ import annotations

import autobahn.twisted  # noqa: F401 (chooses the framework for what follows)
from autobahn.wamp.message import check_or_raise_uri
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close
from realtime.metrics import error_codes
from realtime.wire.wamp_errors import STANDARD, close_uri, error_uri


class UriTests(SynchronousTestCase):
    def test_refusals(self) -> None:
        codes = set(error_codes())
        self.assertLessEqual(set(STANDARD), codes)
        for code in codes:
            check_or_raise_uri(error_uri(code), strict=True)
        self.assertEqual(error_uri("room.full"), "realtime.error.room.full")

    def test_closes(self) -> None:
        for close in Close:
            check_or_raise_uri(close_uri(close), strict=True)
