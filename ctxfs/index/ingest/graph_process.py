"""Separate process that builds the vector graph.

`python -m ctxfs.index.ingest.graph_process FOLDER MODEL DIMENSIONS TOTAL THREADS PARENT`
"""

import sys
from functools import partial
from pathlib import Path as HostPath

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.vectors import build_graph
from ctxfs.index.ingest.indexer import lower_priority
from ctxfs.lifeline import end_with_waiting_parent


def main() -> None:
    """Build the graph from the catalog in FOLDER."""
    folder = HostPath(sys.argv[1])
    model, dimensions, total, threads, parent = map(int, sys.argv[2:])
    end_with_waiting_parent(parent)
    lower_priority()
    rows = partial(Catalog(folder, read_only=True).embeddings.vectors_after, model)
    build_graph(folder, model, dimensions, rows, total, threads)


if __name__ == "__main__":
    main()
