"""The words every room shares. Standard library only; knows nothing of kernels, sockets or indexes."""
