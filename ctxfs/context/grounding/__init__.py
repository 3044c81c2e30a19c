"""Grounding: compare a response with its sources, and review its claims."""
