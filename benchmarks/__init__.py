"""Measurements against native tools and other programs; anyone can run them, none of them is a test."""

import ctxfs.index  # noqa: F401  # before numpy, as in the daemon
