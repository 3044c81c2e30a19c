"""The past of a store's work tree: journal, commits, history, rollback, recovery, erasure. Only `git.py` knows git."""
