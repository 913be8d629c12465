"""What a development server greets with: its address, a ready token, and a client to paste."""

from __future__ import annotations

import json

from .settings import Settings

#: Who the ready token is for.
USER = "alice"


def banner(settings: Settings, port: int, token: str) -> str:
    """The greeting, ending in a newline.

    :param port: the port on which clients are served.
    """
    address = settings.bind_address
    if address in ("0.0.0.0", "::"):  # noqa: S104  compared, not bound
        address = "localhost"
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    path = "" if settings.ws_path == "/socket.io" else f"path: {json.dumps(settings.ws_path)}, "
    return f"""
realtime serves {url}{settings.ws_path}

A token for {USER}:
{token}

A client (npm install socket.io-client):
import {{ io }} from "socket.io-client";
const socket = io("{url}", {{ {path}auth: {{ token: "{token}" }} }});
socket.onAny((event, ...data) => console.log(event, ...data));

"""
