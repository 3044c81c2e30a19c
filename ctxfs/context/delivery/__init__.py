"""Delivery: the tasks below context/, streams and deltas, and delivery records."""
