"""Capture: hooks of agents' clients that record their sessions in the event log, and answer prompts from the store."""
