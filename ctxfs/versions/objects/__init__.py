"""Git objects: access to them, and the formats of their contents."""
