"""Episodes: summaries of the sessions of the event log."""
