"""What a development server greets with: its address, a page to try it out, a token, a client to paste."""

from __future__ import annotations

import json

from .settings import Settings

#: Who the ready token is for.
USER = "alice"


def banner(settings: Settings, port: int, token: str, key: str) -> str:
    """The greeting, ending in a newline.

    :param port: the port on which clients are served.
    :param key: of the try-out page.
    """
    address = settings.bind_address
    if address in ("0.0.0.0", "::"):  # noqa: S104  compared, not bound
        address = "localhost"
    scheme = "https" if settings.tls_certificate else "http"
    url = f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"
    path = "" if settings.ws_path == "/socket.io" else f"path: {json.dumps(settings.ws_path)}, "
    return f"""
realtime serves {url}{settings.ws_path}

Try it out in a browser:
{url}/try/#key={key}

A token for {USER}:
{token}

A client (npm install socket.io-client):
import {{ io }} from "socket.io-client";
const socket = io("{url}", {{ {path}auth: {{ token: "{token}" }} }});
socket.onAny((event, ...data) => console.log(event, ...data));

"""
