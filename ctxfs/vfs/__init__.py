"""The semantics of the tree: routing of paths to mounts, access control, sessions, and open files."""
