"""The web site of the page that Chromium's clients run in: another origin than the service."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import File

from .drivers import HERE, node_modules


class Page:
    """Serves the page on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        root = Resource()
        root.putChild(b"", File(str(HERE / "page.html")))
        script = File(str(HERE / "sockets.mjs"), defaultType="text/javascript")
        root.putChild(b"sockets.mjs", script)
        root.putChild(b"wamp", File(str(HERE / "wamp.html"), defaultType="text/html"))
        for name in ("wamp.mjs", "plain.mjs", "commanded.mjs"):
            root.putChild(name.encode(), File(str(HERE / name), defaultType="text/javascript"))
        autobahn = str(node_modules() / "autobahn-browser/autobahn.min.js")
        root.putChild(b"autobahn.js", File(autobahn, "text/javascript"))
        root.putChild(b"socket.io.js", File(str(node_modules() / "socket.io-client/dist/socket.io.js")))
        site = Site(root)
        site.noisy = False
        self._site = site
        self._port = reactor.listenTCP(0, site, interface="127.0.0.1")

    @property
    def origin(self) -> str:
        """The origin of the page, without a slash at its end."""
        return f"http://127.0.0.1:{self._port.getHost().port}"

    async def stop(self) -> None:
        """Listen no more."""
        await self._port.stopListening()
