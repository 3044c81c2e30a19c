"""MCP servers whose tools, prompts and documents are files of the tree: the client's side of the protocol."""
