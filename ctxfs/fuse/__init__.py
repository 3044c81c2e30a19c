"""The kernel's view of the tree: translates FUSE requests, decides nothing. Runs in a process a mount point."""
