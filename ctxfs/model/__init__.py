"""The data types that all packages share. Standard library only; independent of kernels, sockets and indexes."""
