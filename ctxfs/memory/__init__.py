"""The life of a memory: kinds, states, citations and validity. Pure: the disk, versions and search are above."""
