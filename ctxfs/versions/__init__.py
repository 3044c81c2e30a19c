"""Versions of a store's work tree: journal, commits, history, rollback, recovery and erasure.

Only `objects/git.py` and the modules that it uses run git.
"""
