"""A context: what was asked, what was chosen within a budget, how it reads, and why each line is in it."""
