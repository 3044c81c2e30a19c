"""Built-in tools, a folder each with a `tool.toml` and a program that needs nothing but Python, in the form of anybody's."""
