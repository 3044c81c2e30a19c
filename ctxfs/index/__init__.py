"""Search over the tree: derived from its files, rebuilt from them at any time, asked by question."""

import os

# Before numpy: words are searched beside meaning, and each has a processor. Two threads for a product of a matrix and a vector would
# take the other's and wait for it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
