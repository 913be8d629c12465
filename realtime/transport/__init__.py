"""Sockets: the front door, WebSocket, long-polling and the Engine.IO sessions over them."""
