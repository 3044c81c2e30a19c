"""The providers of the tree, one file each. They know the rooms of ctxfs that they show, never an adapter."""
