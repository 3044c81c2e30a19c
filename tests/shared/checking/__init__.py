"""A checker of shared stores: random operations and faults on some nodes, and a model of their outcome."""
