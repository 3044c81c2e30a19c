"""The client of MCP servers: connections, transports, and their tools and documents in the tree."""
