"""Ingestion: keep the engines equal to the files of the sources."""
