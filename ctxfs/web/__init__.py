"""The page of a store for a browser on this machine: an adapter beside the command line and MCP, without rules of its own."""
