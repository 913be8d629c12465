"""Pages: our own pages in a real headless Chromium, driven as people do. See ``pages.mjs``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .children import program
from .drivers import HERE, Client, Driver, chromium, node_modules


class Tab(Client):
    """One page. Each action waits, like a person, until what it needs is there."""

    async def do(self, action: str, at: str = "", **more: Any) -> Any:
        """Do something; its value.

        :param at: a CSS selector.
        :raises AssertionError: it could not be done.
        """
        self._calls += 1
        call = self._calls
        self._tell(action, at=at, call=call, **more)
        told = await self.take(lambda report: report.get("call") == call, f"to do {action} {at}", 30)
        if told["report"] != "done":
            raise AssertionError(f"{self.name}: {told['message']}")
        return told.get("value")


class Pages(Driver):
    """The browser."""

    def command(self, directory: Path) -> list[str]:
        node_modules()
        profile = directory / "profile"
        profile.mkdir()
        return [program("node"), str(HERE / "pages.mjs"), str(profile)]

    def environ(self, directory: Path) -> dict[str, str]:
        return {**super().environ(directory), "CHROMIUM": chromium()}

    async def start(self, directory: Path) -> None:
        await super().start(directory)
        await self._own.report("ready")

    async def tab(self, url: str) -> Tab:
        """A page in a tab of its own."""
        tab = Tab(self, str(len(self._clients)), url)
        self._clients[tab.name] = tab
        await tab.do("open", url=url)
        return tab
