"""Groups of the parts of a store, which `App` builds in order."""
