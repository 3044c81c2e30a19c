"""ctxfs: memory, tools and knowledge as one tree of files, with search and budgets built in."""

__version__ = "0.1.0"
