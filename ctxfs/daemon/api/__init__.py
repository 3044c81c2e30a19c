"""RPC methods of the daemon, one file a subject."""
