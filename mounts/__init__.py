"""The providers of the tree, one file each. They use the packages of ctxfs whose data they show, never an adapter."""
