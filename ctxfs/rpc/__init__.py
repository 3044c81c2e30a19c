"""The protocol between processes of one store: msgpack over a Unix socket. It contains no rule of the tree."""
