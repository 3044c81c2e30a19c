"""The command line: one file a verb group; asks the daemon, or opens the store itself. Knows no rule of the tree."""
