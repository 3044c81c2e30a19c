"""Remotes: push, fetch, validation of fetched history, and merge."""
