"""Builds the vector graph in a process of its own: `python -m ctxfs.index.graph_process FOLDER TOTAL THREADS`."""

import sys
from pathlib import Path as HostPath

from ctxfs.index.catalog import Catalog
from ctxfs.index.indexer import lower_priority
from ctxfs.index.model_files import DIMENSIONS
from ctxfs.index.vectors import build_graph


def main() -> None:
    """Build from the catalog in FOLDER."""
    folder = HostPath(sys.argv[1])
    lower_priority()
    build_graph(folder, DIMENSIONS, Catalog(folder, read_only=True).vectors_after, int(sys.argv[2]), int(sys.argv[3]))


if __name__ == "__main__":
    main()
