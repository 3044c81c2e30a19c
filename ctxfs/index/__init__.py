"""Full-text and vector search over the tree. The index is derived from the files and can be rebuilt at any time."""

import os

# Set before numpy is imported. Full-text and vector search run side by side, each on a processor of its own. With two
# threads, a matrix-vector product would take the other search's processor and wait for it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
