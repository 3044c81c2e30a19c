"""What the tree is: which mount answers for a path, and what a reader or writer of one file sees."""
