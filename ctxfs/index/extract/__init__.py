"""Extraction: host files to chunks of text with line numbers."""
