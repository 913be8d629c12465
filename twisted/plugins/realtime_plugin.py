"""Lets ``twistd realtime`` find the service."""

from twisted.application.service import ServiceMaker

realtime = ServiceMaker(
    "realtime",
    "realtime.tap",
    "Holds the live connections of clients and pushes to them what other services publish.",
    "realtime",
)
