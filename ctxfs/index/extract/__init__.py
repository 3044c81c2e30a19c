"""Extraction of host files to chunks of text with line numbers."""
