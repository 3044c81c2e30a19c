"""`/v1/memory_stores`: the shapes of the memory stores of the `anthropic` SDK, on directories of memory.

A store is a directory `memory/<owner>/stores/<id>/` with a record beside it; a memory is a file in it. Versions are those
of the tree, so that changes through a mount or MCP are versions here, too.
"""
