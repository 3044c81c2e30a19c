"""Recording versions: the journal, the work tree, commits, and recovery after a crash."""
