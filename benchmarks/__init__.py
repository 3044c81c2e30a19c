"""Benchmarks against native tools and other programs. They run on any machine and are not tests."""

import ctxfs.index  # noqa: F401  # before numpy, as in the daemon
