"""The HTTP API does what its OpenAPI document says: schemathesis finds nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from realtime.ingress.paths import ROUTES

from .case import LiveCase
from .children import Child, Missing, within
from .service import API_KEY

#: How much is tried: all that the document says, or a sample of it.
FULL = os.environ.get("FAULTS") == "full"
PHASES = "coverage,fuzzing,stateful" if FULL else "fuzzing"
EXAMPLES = "200" if FULL else "1"
SECONDS = 1800 if FULL else 100


class DescribedTests(LiveCase):
    timeout = SECONDS + 20

    async def test_schemathesis(self) -> None:
        """Valid requests are taken, others are refused, and answers look as described, errors too."""
        service = await self.start_service(INGEST_SERVICES="invoice")
        tool = Path(sys.executable).with_name("schemathesis")
        if not tool.exists():
            raise Missing("schemathesis", tool)
        lines: list[str] = []
        child = Child(lines.append)
        directory = self.directory()
        directory.mkdir()
        command = [
            *(str(tool), "run", service.base("API_PORT") + "/v1/openapi.json", "--no-color"),
            *("--header", f"Authorization: Bearer {API_KEY}", "--phases", PHASES),
            *("--max-examples", EXAMPLES, "--seed", os.environ.get("SEED", "1")),
        ]
        environ = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8", "COLUMNS": "200"}
        child.start(command, environ, directory)
        await within(SECONDS, child.ended(), lambda: f"its end: {lines[-20:]}")
        self.assertEqual(child.status, 0, "\n".join(lines))
        self.assertTrue(any(f"Tested: {len(ROUTES)}" in line for line in lines), "\n".join(lines))
