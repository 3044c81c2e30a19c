"""The tree in the interfaces of other libraries. Each module needs the extra of its library, and the library alone."""
