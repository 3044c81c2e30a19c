"""A store on disk: its layout, settings, lock, credentials and registry, and access to the host folders of the tree."""
