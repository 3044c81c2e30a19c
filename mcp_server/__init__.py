"""The tree for MCP clients: a thin translator over the same methods that the command line uses."""
