"""msgpack over a unix socket: how processes of one store talk. Knows no rule of the tree."""
