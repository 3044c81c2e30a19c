"""Bundles: a part of the tree as a directory or a tar file, with a header of hashes (the MemCube of MemOS)."""
