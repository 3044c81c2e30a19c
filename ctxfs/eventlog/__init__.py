"""The event log and the audit: append-only hash chains of records."""
