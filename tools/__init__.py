"""Built-in tools, one folder each, in the form that `tools/` shows when it is mounted. None is built in yet."""
