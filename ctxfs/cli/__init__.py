"""The command line: one module a group of verbs. Commands call the daemon, or open the store themselves."""
