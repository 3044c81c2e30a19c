"""Tools: what they are, whether they may run, and running them."""
