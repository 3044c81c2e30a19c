"""One memory on many machines: the ordered log of versions that nodes share, its engines, and a node's exchange with it."""
