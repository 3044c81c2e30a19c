"""The tree over HTTP: the methods as JSON, files as they are, and interfaces that others defined. No rule of the tree is here."""
