"""realtime: holds the live connections of a booking system's clients and pushes to them."""

__version__ = "0.1.0"
