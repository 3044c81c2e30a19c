"""Storage engines of the index: catalog, full text and vectors."""
