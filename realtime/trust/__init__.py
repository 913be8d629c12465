"""What all nodes have to know of whom not to trust; see interface."""
