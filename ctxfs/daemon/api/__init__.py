"""RPC methods of the daemon, one module for each subject."""
