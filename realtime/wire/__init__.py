"""Client protocols: frames to messages and back. No Twisted, no clock, no socket."""
