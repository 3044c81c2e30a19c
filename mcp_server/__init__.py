"""MCP server of the tree: a thin adapter over the RPC methods that the command line uses."""
