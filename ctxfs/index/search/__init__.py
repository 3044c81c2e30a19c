"""Search: rank chunks for a query, and match lines for a pattern."""
