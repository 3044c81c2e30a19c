"""The process that owns a store: serves its tree, watches its folders, keeps its indexer and mount processes alive."""
