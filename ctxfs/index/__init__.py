"""Search over the tree: derived from its files, rebuilt from them at any time, asked by question."""
