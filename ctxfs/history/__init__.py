"""What was said and done, line by line, in one chain that nobody can change unnoticed. Knows no mounts and no contexts."""
