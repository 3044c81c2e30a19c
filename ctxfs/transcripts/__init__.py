"""Transcripts of the clients of others, read as messages for the event log."""
