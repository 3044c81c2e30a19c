"""FUSE adapters: they translate the kernel's requests, contain no policy, and run in one process per mount point."""
