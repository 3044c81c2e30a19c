"""The daemon that owns a store: it serves the tree, watches folders, and supervises the indexer and mount processes."""
