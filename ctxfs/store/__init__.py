"""A store on disk: its layout, its settings, who owns it, and the real folders behind the tree."""
