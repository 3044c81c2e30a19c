"""Built-in tools: a folder each with `tool.toml` and a program that needs only Python, in the format of users' tools."""
