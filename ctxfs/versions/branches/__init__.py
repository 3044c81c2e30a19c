"""Branches of the work tree: other states of memory and pads, held in git alone."""
