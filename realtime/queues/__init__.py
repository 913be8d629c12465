"""What all nodes have to know of who waits in which booking queue; see interface."""
