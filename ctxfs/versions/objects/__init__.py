"""Git objects: reading and writing them, and the formats of what they contain."""
